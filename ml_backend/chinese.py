"""Chinese for the sentences that the REST API answers with; said.py finds the one that a sentence was made from.

The keys stand as the code has them, `{}` for each value; the Chinese counts the values as `str.format` does.
"""

CHINESE: dict[str, str] = {
    # The gate: why a candidate was promoted or refused (nerloop/gate.py, sync/judge.py)
    "micro-F1 {} ({}) → {} on {} gate documents with {} entities": (
        "门禁 {3} 篇文档、{4} 个实体上 micro-F1 {0}（{1}）→ {2}"
    ),
    "not counting new labels, which cannot drop: {}": "不计新标签（它们不会下降）：{}",
    "{} F1 {} of {} entities": "{} 的 F1 为 {}（{} 个实体）",
    "{} F1 {} of 1 entity": "{} 的 F1 为 {}（1 个实体）",
    "P(drop > {}) {}": "下降超过 {} 的概率 {}",
    "P(drop > {}) {}, {} against the best ever, {} ({})": "下降超过 {0} 的概率 {1}，相对历史最佳 {3}（{4}）为 {2}",
    (
        "provisional: fewer than {} documents or {} entities, so that micro-F1 against {} alone decided ({}, which "
        "cannot be relied on)"
    ): "暂定：不足 {} 篇文档或 {} 个实体，只按相对 {} 的 micro-F1 决定（{}，不足为凭）",
    "refused because micro-F1 is lower": "拒绝：micro-F1 更低",
    "refused because a drop of more than {} against {} is too likely ({}, at most {} is allowed)": (
        "拒绝：相对 {1} 下降超过 {0} 的可能太大（{2}，最多允许 {3}）"
    ),
    "refused because of labels that drop against {}: {} (at most {})": "拒绝：有标签相对 {} 下降：{}（最多允许 {}）",
    "refused because no entity is on {} gate documents to judge by": "拒绝：门禁的 {} 篇文档上没有实体可供评判",
    "refused because no entity of the labels that {} knows too ({}) is on {} gate documents to judge by": (
        "拒绝：门禁的 {2} 篇文档上没有 {0} 也认识的标签（{1}）的实体可供评判"
    ),
    "promoted all the same: forced by {}, because: {}": "仍然晋升：由 {} 强制，理由：{}",
    "registered by {}": "由 {} 注册",
    "judged again: {}": "重新评判：{}",
    "it stays until something better comes or somebody acts": "它会一直服务，直到有更好的版本或有人处理",
    "{}, the best ever, is left out because it cannot be read": "历史最佳 {} 无法读取，没有参与比较",
    "it waits, for automatic promotion is paused": "它在等待：自动晋升已暂停",
    "`nerloop resume {}` ends that": "用 `nerloop resume {}` 恢复",
    # Whether to go on labelling (nerloop/stopping.py)
    "Go on labelling: no version has been trained on more texts than the one before.": (
        "继续标注：还没有哪个版本比前一个用了更多文本训练。"
    ),
    "Go on labelling: {}.": "继续标注：{}。",
    "More texts like these will probably change little: {}.": "再标注同类文本，大概不会有多大变化：{}。",
    (
        "the last versions agree with those before by kappa {} (stable: {} on average of {}), and 100 more texts "
        "brought {} of F1 (95 % interval {} to {}, which is little where surely below {})"
    ): (
        "最近几个版本与各自前一版的一致度 kappa 为 {0}（{2} 个版本平均达到 {1} 算稳定），每多 100 篇文本 F1 变化 {3}"
        "（95 % 区间 {4} 到 {5}，确定低于 {6} 才算很小）"
    ),
    # A fine-tune that failed (nerloop/jobs.py shows what the job raised)
    "Work-horse terminated unexpectedly{}": "训练进程意外终止{}",
    "Moved to FailedJobRegistry, due to AbandonedJobError, at {}": "执行训练的工作进程在 {} 之前失去联系",
    "it was stopped": "已被停止",
    # Who asks, and whether they may (ml_backend/access.py, ml_backend/sessions.py)
    "send the header 'Authorization: Bearer TOKEN' with a token that `nerloop user add NAME` has printed": (
        "请在请求头 'Authorization: Bearer 令牌' 中带上 `nerloop user add 名字` 打印的令牌"
    ),
    "{} is a viewer; only an operator may do this": "{} 是查看者，只有操作员可以这样做",
    "too many tries; wait some minutes": "尝试次数太多，请等几分钟",
    "this name and password are neither a Label Studio account nor a user with that token": (
        "这个名字和密码既不是 Label Studio 的账号，也不是持有该令牌的用户"
    ),
    (
        "nobody can log in: set NERLOOP_SESSION_SECRET for the ML backend, to the same long random text on every "
        "replica (`openssl rand -hex 20` makes one)"
    ): (
        "现在谁也无法登录：请给 ML 后端设置 NERLOOP_SESSION_SECRET，每个副本都用同一段很长的随机文本（`openssl rand "
        "-hex 20` 可以生成）"
    ),
    # What is asked for (ml_backend/api*.py, ml_backend/problems.py, ml_backend/services.py)
    "there is no model {}; GET /api/v1/models lists them": "没有模型 {}；GET /api/v1/models 会列出所有模型",
    "no project is bound to model {}; `nerloop connect --project ID --model {}` does": (
        "还没有项目绑定到模型 {}；`nerloop connect --project ID --model {}` 可以绑定"
    ),
    "there is no version {}; GET /api/v1/models/MODEL/versions lists them": (
        "没有版本 {}；GET /api/v1/models/MODEL/versions 会列出所有版本"
    ),
    "project {} is not connected; GET /api/v1/projects lists those that are": (
        "项目 {} 没有接入；GET /api/v1/projects 会列出已接入的项目"
    ),
    "project {} is not connected; run `nerloop connect --project {}`": (
        "项目 {} 没有接入；请运行 `nerloop connect --project {}`"
    ),
    "nothing answers at {} within {} s; mend the address": "{} 在 {} 秒内没有响应，请改正地址",
    "the Label Studio at {} refuses this token; copy a fresh one there": (
        "{} 的 Label Studio 拒绝这个令牌，请在那里重新复制一个"
    ),
    "what answers at {} is no Label Studio, or does not work: {}": "{} 上回答的不是 Label Studio，或者它不正常：{}",
    "the request is larger than {} bytes; send fewer texts at once": "请求超过 {} 字节，请一次少发一些文本",
    "field {}: {}": "字段 {}：{}",
    "Field required": "缺少这个字段",
    "Extra inputs are not permitted": "没有这个字段",
    "String should have at most {} characters": "最多 {} 个字符",
    "String should have at least {} character": "至少 {} 个字符",
    "String should match pattern {}": "格式应为 {}",
    "Input should be greater than or equal to {}": "应不小于 {}",
    "Input should be less than or equal to {}": "应不大于 {}",
    "Input should be a valid string": "应为字符串",
    "Input should be a valid integer": "应为整数",
    "Input should be {}": "应为 {}",
    "List should have at least {} item after validation, not {}": "至少 {} 项，现为 {} 项",
    "List should have at most {} items after validation, not {}": "最多 {} 项，现为 {} 项",
    "JSON decode error": "不是有效的 JSON",
    "Not Found": "没有这个地址",
    "Method Not Allowed": "这个地址不接受这种请求",
    # Error feedback (sync/feedback.py, nerloop/documents.py)
    "field 'text' is empty; send the text that the model was wrong about": "字段 'text' 为空，请发送模型出错的那段文本",
    "field 'text' holds a NUL character, which PostgreSQL cannot store; take it out": (
        "字段 'text' 含有 NUL 字符，PostgreSQL 无法保存，请去掉"
    ),
    "field 'label': project {} has no label {}; it has {}": "字段 'label'：项目 {} 没有标签 {}，它的标签有 {}",
    "the label is empty; give it a name": "标签为空，请给它起名",
    "the label {} begins or ends with white space; take it away": "标签 {} 的开头或结尾有空白，请去掉",
    "the label {} holds a control character or half an emoji; take it out": (
        "标签 {} 含有控制字符或半个表情符号，请去掉"
    ),
    (
        "fields 'start'={} and 'end'={} do not lie inside the text of {} characters; offsets count code points and "
        "'end' is exclusive"
    ): "字段 'start'={} 和 'end'={} 不在 {} 个字符的文本之内；位置按码点计，'end' 不包含在内",
    "field 'text' is missing or not a string": "字段 'text' 缺失或不是字符串",
    "field 'entities' is missing or not a list; write [] for a text without entities": (
        "字段 'entities' 缺失或不是列表；没有实体的文本请写 []"
    ),
    "field 'category': {}": "字段 'category'：{}",
    "not valid JSON ({}); write one JSON object a line": "不是有效的 JSON（{}），请每行写一个 JSON 对象",
    "field 'entities': each needs a string 'category'": "字段 'entities'：每个实体都要有字符串 'category'",
    "field 'entities': 'start' and 'end' must be whole numbers": "字段 'entities'：'start' 和 'end' 应为整数",
    "{}: no such file": "{}：没有这个文件",
    "{}: is a directory; give a JSONL file": "{}：是目录，请给出 JSONL 文件",
    "{}: cannot be read ({})": "{}：无法读取（{}）",
    "{}: not UTF-8 ({} at byte {}); convert the file to UTF-8": (
        "{0}：不是 UTF-8（第 {2} 字节：{1}），请把文件转换为 UTF-8"
    ),
    "{}, line {}: {}": "{} 第 {} 行：{}",
    "cannot write {}: {}; free space or choose another place": "无法写入 {}：{}；请释放空间或换个位置",
    # Versions and promotions (nerloop/registry.py, nerloop/versions.py, nerloop/promotions.py, sync/push.py, …)
    "no version {} of {}: {}; are NERLOOP_HOME and NERLOOP_REGISTRY_URL those of its loop?": (
        "{1} 没有版本 {0}：{2}；NERLOOP_HOME 和 NERLOOP_REGISTRY_URL 是它所在闭环的吗？"
    ),
    "the newest is v{}": "最新的是 v{}",
    "the registry has none": "注册表一个也没有",
    (
        "{}: its files were removed by retention (NERLOOP_KEEP_VERSIONS, NERLOOP_KEEP_DAYS), so that it can neither "
        "serve nor be downloaded; its decision and numbers are still there: `nerloop lineage {}`"
    ): (
        "{}：它的文件已按保留策略删除（NERLOOP_KEEP_VERSIONS、NERLOOP_KEEP_DAYS），不能再服务或下载；决定和指标还在："
        "`nerloop lineage {}`"
    ),
    "{} version {} lacks the tag {}": "{} 的版本 {} 缺少标记 {}",
    "model name {}: use 1 to 63 letters, digits, '-' or '_', not ending in {}": (
        "模型名 {}：请用 1 到 63 个字母、数字、'-' 或 '_'，且不以 {} 结尾"
    ),
    "{} is in production already": "{} 已经在线上",
    "{} is in production already; `nerloop pause {}` keeps it there": (
        "{} 已经在线上；`nerloop pause {}` 可以让它留在线上"
    ),
    "{} was never in production; `nerloop promote {} --why …` puts it there": (
        "{} 从未上线；`nerloop promote {} --why …` 可以让它上线"
    ),
    "no project is connected to model {}; see `nerloop status`": "没有项目接入模型 {}，见 `nerloop status`",
    "{} is no version of {}; give {}-v and its number, or {}": "{} 不是 {} 的版本；请给出 {}-v 加编号，或 {}",
    "production of {} changed at the same moment, to {}{}: look at it, then run this again": (
        "{} 的线上版本同时变成了 {}{}：请看一下再重试"
    ),
    "automatic promotion is paused all the same": "自动晋升仍已暂停",
    "no project is connected to model {}, to judge a candidate by; see `nerloop status`": (
        "没有项目接入模型 {}，无从评判候选版本，见 `nerloop status`"
    ),
    (
        "none of its labels ({}) is one of model {} ({}); say in the labelling config which are the same, with "
        "predicted_values"
    ): "它的标签（{}）都不是模型 {} 的（{}）；请在标注配置里用 predicted_values 写明哪些相同",
    (
        "no labelled entity on a held-out text of model {} to judge by; label more tasks, or let it serve before "
        "anything is labelled with --force --by WHO --why REASON"
    ): "模型 {} 的留出文本上没有已标注的实体可供评判；请多标注一些任务，或用 --force --by 谁 --why 理由 让它先行上线",
    "{} is refused: {}": "{} 被拒绝：{}",
    # Servers and disks that do not answer (nerloop/jobs.py, nerloop/label_studio.py, nerloop/mlflow_door.py, …)
    "Redis does not answer ({}); start the stack (`make up`, `nerloop up`), or correct NERLOOP_REDIS_URL": (
        "Redis 没有响应（{}）；请启动全套服务（`make up`、`nerloop up`），或改正 NERLOOP_REDIS_URL"
    ),
    "LABEL_STUDIO_API_KEY is not set; copy a token from Label Studio, Account & Settings, Access Token": (
        "没有设置 LABEL_STUDIO_API_KEY；请从 Label Studio 的 Account & Settings → Access Token 复制令牌"
    ),
    (
        "Label Studio refuses the token in LABEL_STUDIO_API_KEY: copy a fresh one from Account & Settings. A legacy "
        "token (40 hex digits) works only where the organization allows legacy tokens; a personal access token works "
        "always"
    ): (
        "Label Studio 拒绝 LABEL_STUDIO_API_KEY 中的令牌：请在 Account & Settings 重新复制一个。旧式令牌（40 位十六进"
        "制）只在组织允许时有效，个人访问令牌总是有效"
    ),
    "{}: Label Studio does not answer ({}); is it running at LABEL_STUDIO_URL={}?": (
        "{}：Label Studio 没有响应（{}）；它在 LABEL_STUDIO_URL={} 运行吗？"
    ),
    "{}: Label Studio does not answer ({}); is it running at LABEL_STUDIO_URL?": (
        "{}：Label Studio 没有响应（{}）；它在 LABEL_STUDIO_URL 运行吗？"
    ),
    "{} is no address: {}": "{} 不是地址：{}",
    "{}: the answer is not JSON; is LABEL_STUDIO_URL Label Studio's?": (
        "{}：回答不是 JSON；LABEL_STUDIO_URL 是 Label Studio 的地址吗？"
    ),
    (
        "{}: Label Studio refuses local and private addresses. Where all parts are on one machine, start it with "
        "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (both); elsewhere exempt your subnet as "
        "docker-compose.yml does"
    ): (
        "{}：Label Studio 拒绝本机和内网地址。如果都在一台机器上，启动它时设置 ML_BLOCK_LOCAL_IP=false 和 "
        "SSRF_PROTECTION_ENABLED=false（两个都要）；否则像 docker-compose.yml 那样放行你的子网"
    ),
    "{}: {}; it does not exist, or the token's owner may not see it": "{}：{}；它不存在，或者令牌的主人看不到它",
    "{}: Label Studio answered {}: {}; see its log": "{}：Label Studio 回答 {}：{}；请看它的日志",
    "{}: Label Studio answered {}: {}": "{}：Label Studio 回答 {}：{}",
    "task {} belongs to project {}, not to project {}": "任务 {} 属于项目 {}，不属于项目 {}",
    "{} is no login form of Label Studio's; is LABEL_STUDIO_URL right?": (
        "{} 不是 Label Studio 的登录页；LABEL_STUDIO_URL 对吗？"
    ),
    "{} answered {}; see Label Studio's log": "{} 回答 {}；请看 Label Studio 的日志",
    "{}: {}; is the registry in NERLOOP_REGISTRY_URL running and reachable?": (
        "{}：{}；NERLOOP_REGISTRY_URL 指向的注册表在运行、能连上吗？"
    ),
    "{}: the disk is full; free space and run it again": "{}：磁盘已满，请释放空间后重试",
    "{}: {}; check permissions, or set NERLOOP_HOME elsewhere": "{}：{}；请检查权限，或把 NERLOOP_HOME 设到别处",
    (
        "cannot use the copy of project {}'s labels, {}: {}; free space or correct the permissions there, it is read "
        "anew the next time"
    ): "无法使用项目 {} 标注的副本 {}：{}；请在那里释放空间或改正权限，下次会重新读取",
    # Checkpoints (nerloop/checkpoint.py)
    "{}: {} is not a JSON object": "{}：{} 不是 JSON 对象",
    "{}: format {}; this program reads format {}": "{}：格式 {}；本程序读取格式 {}",
    "{}: {} lacks {}": "{}：{} 缺少 {}",
    "{}: {} does not list {}; fetch it again": "{}：{} 没有列出 {}，请重新获取",
    "cannot write the checkpoint {}: what was read back differs; check the disk": (
        "无法写入检查点 {}：读回的内容不同，请检查磁盘"
    ),
    "cannot write the checkpoint {}: {}; free disk space or check permissions": (
        "无法写入检查点 {}：{}；请释放磁盘空间或检查权限"
    ),
    "{}: the files do not fit {}: {}": "{}：文件与 {} 不符：{}",
    "{}: {} is missing; this is not a complete checkpoint": "{}：缺少 {}，这不是完整的检查点",
    "{}: {} is not valid JSON ({})": "{}：{} 不是有效的 JSON（{}）",
    "{}: {} is not among the files of {}; remove it": "{}：{} 不在 {} 列出的文件中，请删除",
    "{}: {} is missing or its sha256 differs from {}": "{}：{} 缺失，或它的 sha256 与 {} 不同",
    # Binding a project (sync/connect.py, nerloop/label_config.py, nerloop/gazetteer.py)
    "train threshold {}: must be at least 1": "训练阈值 {}：至少为 1",
    (
        "NERLOOP_BACKEND_URL={}: Label Studio takes webhooks only to hosts with a dot; use an IP address or a name "
        "such as ml-backend.internal"
    ): (
        "NERLOOP_BACKEND_URL={}：Label Studio 的 webhook 只发往带点的主机名；请用 IP 地址或 ml-backend.internal 这样"
        "的名字"
    ),
    (
        "project {} has another ML backend, {}; Label Studio asks only the first: remove it under Settings, Model, "
        "and connect again"
    ): "项目 {} 有另一个 ML 后端 {}；Label Studio 只问第一个：请在 Settings → Model 里删除它，再重新接入",
    "Label Studio cannot reach the ML backend at NERLOOP_BACKEND_URL={} (state {}: {}); run `nerloop doctor`": (
        "Label Studio 连不上 NERLOOP_BACKEND_URL={} 的 ML 后端（状态 {}：{}）；请运行 `nerloop doctor`"
    ),
    "project {} ({}): {}": "项目 {}（{}）：{}",
    "label config: no <Labels> on a <Text>; an example that works: {}": (
        "标注配置：没有针对 <Text> 的 <Labels>；可用的例子：{}"
    ),
    'label config: <Text name={}> needs value="$field", the tasks\' field that holds the text; an example: {}': (
        '标注配置：<Text name={}> 要有 value="$字段"，即任务中存放文本的字段；例子：{}'
    ),
    'label config: <Text valueType="url"> is not supported; import the texts themselves; an example: {}': (
        '标注配置：不支持 <Text valueType="url">，请直接导入文本；例子：{}'
    ),
    "label config: <Labels name={}> has no <Label>; an example: {}": (
        "标注配置：<Labels name={}> 里没有 <Label>；例子：{}"
    ),
    "label config: {}; an example that works: {}": "标注配置：{}；可用的例子：{}",
    "label config: <Labels name={}>: {} in the project's labelling setup; an example: {}": (
        "标注配置：<Labels name={}>：{}（在项目的标注配置里）；例子：{}"
    ),
    "{} is not a term, a tab and its label": "{} 不是“词条、制表符、标签”",
    "the term {} has another label above, {}; keep one of them": "词条 {} 在上面已有另一个标签 {}，请只留一个",
    # The checks on the page Connect (sync/doctor.py)
    "see the message; run `nerloop doctor` again after it": "请看这条信息，处理后再检查一次",
    "Label Studio answers": "Label Studio 响应正常",
    "{}, release {}": "{}，版本 {}",
    "Label Studio's release is tested": "Label Studio 的版本经过测试",
    "this version of nerloop is tested with {}; others may behave differently": (
        "nerloop 的这个版本在 {} 上测试过，其他版本的行为可能不同"
    ),
    "the token is accepted": "令牌有效",
    "legacy token of {}": "{} 的旧式令牌",
    "personal access token of {}": "{} 的个人访问令牌",
    "the ML backend answers here": "这里能连上 ML 后端",
    "start it (`nerloop up`, or `python -m ml_backend`), or correct NERLOOP_BACKEND_URL": (
        "请启动它（`nerloop up` 或 `python -m ml_backend`），或改正 NERLOOP_BACKEND_URL"
    ),
    "the webhook's header is accepted": "webhook 的请求头被接受",
    "answered {}": "回答 {}",
    "NERLOOP_WEBHOOK_SECRET differs between here and the ML backend; set the same and run `nerloop connect` again": (
        "这里和 ML 后端的 NERLOOP_WEBHOOK_SECRET 不同；请设成一样，再运行 `nerloop connect`"
    ),
    "strangers are refused": "陌生请求被拒绝",
    "restart the ML backend with BASIC_AUTH_USER and BASIC_AUTH_PASS": (
        "请带上 BASIC_AUTH_USER 和 BASIC_AUTH_PASS 重新启动 ML 后端"
    ),
    "{}: this is a bug of ours; the log of the ML backend says where": "{}：这是程序的错误，详见 ML 后端的日志",
    "Redis answers": "Redis 响应正常",
    "a worker serves queue {}": "队列 {} 有工作进程",
    "{} of them": "{} 个",
    "start one: `python -m workers {}`": "请启动一个：`python -m workers {}`",
    "a backend replica is alive": "有 ML 后端的副本在运行",
    "none": "没有",
    "start the ML backend with the same NERLOOP_REDIS_URL": "请用同一个 NERLOOP_REDIS_URL 启动 ML 后端",
    "the registry answers": "注册表响应正常",
    "there is room for models": "有空间存放模型",
    "{} GB free": "剩余 {} GB",
    "free space, or set NERLOOP_HOME": "请释放空间，或设置 NERLOOP_HOME",
    "a project is connected": "有项目接入",
    "`nerloop connect --project ID`": "请运行 `nerloop connect --project ID`",
    "project {}: Label Studio reaches the ML backend": "项目 {}：Label Studio 能连上 ML 后端",
    "state {}": "状态 {}",
    (
        "Label Studio must reach NERLOOP_BACKEND_URL from its own machine; for a local or private address start it "
        "with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, or exempt the subnet as docker-compose.yml "
        "does; then {}"
    ): (
        "Label Studio 要能从它自己的机器访问 NERLOOP_BACKEND_URL；本机或内网地址请在启动它时设置 "
        "ML_BLOCK_LOCAL_IP=false 和 SSRF_PROTECTION_ENABLED=false，或像 docker-compose.yml 那样放行子网；然后运行 {}"
    ),
    "project {}: its decoder can learn its labels": "项目 {}：解码器能学会它的标注",
    "{} entities of the newest version's texts overlap others": "最新版本的文本中有 {} 个实体与其他实体重叠",
    "if they are meant, `nerloop connect --project {} --decoder nested`; otherwise correct them": (
        "如果是有意的，请运行 `nerloop connect --project {} --decoder nested`；否则请改正"
    ),
    "project {}: annotators are shown what is in production": "项目 {}：标注员看到的是线上版本",
    "shown {}, in production {}, {} tasks wait": "显示 {}，线上 {}，{} 个任务等待标注",
    "no version": "无",
    "a refresh of the predictions is on its way or failed; see `nerloop status`": (
        "预标注正在刷新，或者刷新失败，见 `nerloop status`"
    ),
    "replica {} serves {}": "副本 {} 服务的是 {}",
    "not in memory now; it is loaded when somebody asks for it": "现在不在内存里，有人用时会加载",
    "it follows within seconds; see its log if it does not": "几秒内会跟上；如果没有，请看它的日志",
    "project {}: its gazetteer can be used": "项目 {}：词典可用",
    "correct that line; until then the terms read before stay": "请改正那一行；在此之前沿用先前读到的词条",
    "{} terms in {}": "{1} 中有 {0} 个词条",
    "labels that the project lacks: {}": "项目没有的标签：{}",
    "correct these labels in the file, or name them in predicted_values": (
        "请改正文件里的这些标签，或在 predicted_values 里写明"
    ),
    "project {}: the webhook has our header and events": "项目 {}：webhook 的请求头和事件正确",
    "no webhook to {}": "没有发往 {} 的 webhook",
    "another header": "请求头不对",
    "other events": "事件不对",
    "switched off": "未启用",
    "more than one": "不止一个",
}
