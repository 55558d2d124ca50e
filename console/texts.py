"""Every text of the page in Chinese and English. Owns the choice of language."""

from typing import Literal, get_args

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

TEXTS: dict[str, tuple[str, str]] = {
    # The frame
    "try": ("试用", "Try"),
    "correct": ("纠错", "Correct"),
    "loop": ("闭环", "Loop"),
    "data": ("数据", "Data"),
    "connect": ("接入", "Connect"),
    "skip": ("跳到正文", "Skip to the content"),
    "pages": ("页面", "Pages"),
    "log_out": ("退出", "Log out"),
    "viewer": ("查看者", "viewer"),
    "operator": ("操作员", "operator"),
    "other_language": ("English", "中文"),
    "theme": ("外观", "Theme"),
    "light": ("浅色", "light"),
    "dark": ("深色", "dark"),
    "cyberpunk": ("赛博朋克", "cyberpunk"),
    "actions": ("操作", "Actions"),
    "cancel": ("取消", "Cancel"),
    "reload": ("重新加载", "Reload"),
    "backend_silent": ("ML 后端没有回应（{error}）", "The ML backend does not answer ({error})"),
    "not_answered": ("请求失败：{detail}", "No answer: {detail}"),
    "no_project": (
        "还没有接入任何项目。操作员可以在“接入”页绑定一个。",
        "No project is connected yet. An operator can bind one on the page Connect.",
    ),
    "operators_only": ("只有操作员可以这样做。", "Only an operator may do this."),
    # Log in
    "log_in": ("登录", "Log in"),
    "log_in_with": (
        "使用 Label Studio 的邮箱和密码登录，或使用 nerloop user add 给出的用户名和令牌。",
        "Log in with your Label Studio e-mail and password, or with the name and token of `nerloop user add`.",
    ),
    "name": ("邮箱或用户名", "E-mail or name"),
    "password": ("密码或令牌", "Password or token"),
    "wrong_password": (
        "用户名或密码不对：既不是 Label Studio 账号，也不是令牌对应的用户。",
        "Wrong: neither a Label Studio account nor a user with that token.",
    ),
    "too_many_tries": ("尝试次数过多，请几分钟后再试。", "Too many tries; wait some minutes."),
    # Try
    "text": ("文本", "Text"),
    "text_hint": (
        "输入或粘贴中文文本，实体会随输入高亮",
        "Type or paste Chinese text; entities are highlighted as you type",
    ),
    "model": ("模型", "Model"),
    "version": ("版本", "Version"),
    "in_production": ("线上版本", "in production"),
    "compare": ("对比另一个模型", "Compare with another model"),
    "least_confidence": ("最低置信度", "Minimum confidence"),
    "report_error": ("错误反馈", "Report an error"),
    "found": ("{count} 个实体 · {version} · {milliseconds} 毫秒", "{count} entities · {version} · {milliseconds} ms"),
    "differ": ("{count} 处不同（虚线框）", "{count} differ (dashed)"),
    "general": ("{model}（通用）", "{model} (general)"),
    "confidence": ("置信度 {percent}%", "confidence {percent}%"),
    # Correct
    "project": ("项目", "Project"),
    "correct_hint": (
        "选中文字再点标签即可添加实体；点击实体可以改标签、调整边界或删除。快捷键：1–9 选标签，Delete 删除，"
        "[ ] 移动左边界，{{ }} 移动右边界，Esc 取消选择。",
        "Select text and choose a label to add an entity; click an entity to change its label, its borders, or to "
        "delete it. Keys: 1–9 choose a label, Delete deletes, [ ] move the left border, {{ }} the right one, Esc lets "
        "go.",
    ),
    "pre_label": ("用模型预标注", "Label with the model"),
    "pre_label_replaces": ("已用 {version} 的结果替换", "Replaced by what {version} finds"),
    "labels": ("标签", "Labels"),
    "chosen": ("已选中：{text}（{label}）", "Chosen: {text} ({label})"),
    "selected": ("已选文字：{text}", "Selected text: {text}"),
    "nothing_chosen": ("未选中实体", "No entity is chosen"),
    "delete": ("删除", "Delete"),
    "start_left": ("左边界 ←", "Left border ←"),
    "start_right": ("左边界 →", "Left border →"),
    "end_left": ("右边界 ←", "Right border ←"),
    "end_right": ("右边界 →", "Right border →"),
    "send": ("提交反馈", "Send"),
    "select_first": ("请先选中文字或点击一个实体", "Select text or click an entity first"),
    "changed_meanwhile": (
        "文本或项目已经改动，这个结果没有采用。",
        "The text or the project has changed meanwhile; this answer was left aside.",
    ),
    "left_out": (
        "{count} 个实体的标签不属于这个项目，不会提交",
        "{count} entities have labels that this project lacks; they are not sent",
    ),
    "same_entity": ("这个实体已经有了", "This entity is there already"),
    "sent": ("已提交的反馈", "What you have sent"),
    "sent_training": (
        "已作为标注存入 Label Studio，计入下一轮训练。",
        "Stored in Label Studio as an annotation; it counts for the next training.",
    ),
    "sent_evaluation": (
        "这段文本属于留出文本，或与其中一篇几乎相同：已作为标注保存，但不会参与训练。",
        "This text is held out, or nearly one that is: stored as an annotation, and no model will be trained on it.",
    ),
    "sent_repeated": (
        "同样的反馈以前提交过，没有重复保存。",
        "The same had been sent before; nothing was stored twice.",
    ),
    "waits": ("等待下一轮训练", "waits for the next training"),
    "live_in": ("已生效：{version} 学过这条反馈", "live: {version} has learned from it"),
    "open_task": ("在 Label Studio 中打开", "Open in Label Studio"),
    # Loop
    "new_labels": ("新标注 {count} / {threshold}", "New labels {count} of {threshold}"),
    "annotated": ("已标注 {annotated} / {tasks} 个任务", "{annotated} of {tasks} tasks are annotated"),
    "serving": ("线上：{version}", "In production: {version}"),
    "f1_is": ("F1 {f1}", "F1 {f1}"),
    "provisional": ("暂定（门禁文本还太少）", "provisional (too few texts to judge by)"),
    "fresh_stale": (
        "预标注：{fresh} 条最新，{stale} 条待更新",
        "Predictions: {fresh} fresh, {stale} stale",
    ),
    "refreshing": ("正在更新预标注 {done} / {total}", "Refreshing predictions, {done} of {total}"),
    "seconds_left": ("还需约 {seconds} 秒", "about {seconds} s left"),
    "paused": (
        "自动晋升已暂停（{by}，{since}）{why}",
        "Automatic promotion is paused ({by}, {since}){why}",
    ),
    "job_none": ("当前没有训练", "No training now"),
    "job_queued": ("训练已排队", "A training is queued"),
    "job_started": ("正在训练：{step}", "Training: {step}"),
    "job_epoch": (
        "正在训练：第 {epoch} / {epochs} 轮，损失 {loss}",
        "Training: epoch {epoch} of {epochs}, loss {loss}",
    ),
    "job_failed": ("上次训练失败：{error}", "The last training failed: {error}"),
    "step_reading labels": ("读取标注", "reading labels"),
    "step_training": ("训练", "training"),
    "step_evaluating": ("评测", "evaluating"),
    "step_registering": ("登记版本", "registering"),
    "curves": ("训练曲线", "Training curves"),
    "loss": ("损失", "loss"),
    "dev_f1": ("开发集 F1", "dev F1"),
    "epoch": ("轮次", "epoch"),
    "train_now": ("立即训练", "Train now"),
    "stop_training": ("停止训练", "Stop training"),
    "train_queued": ("已排队", "Queued"),
    "train_there": ("训练已在队列中或进行中", "A training is queued or running already"),
    "stopped": ("已停止", "Stopped"),
    "nothing_to_stop": ("已经没有训练在进行", "No training is running any more"),
    "promote": ("晋升", "Promote"),
    "roll_back": ("回滚", "Roll back"),
    "roll_back_to": ("回滚到 {version}", "Roll back to {version}"),
    "pause": ("暂停自动晋升", "Pause promotion"),
    "resume": ("恢复自动晋升", "Resume promotion"),
    "promote_title": ("晋升 {version}？", "Put {version} into production?"),
    "roll_back_title": ("回滚到 {version}？", "Roll back to {version}?"),
    "roll_back_note": (
        "预标注会随之更新，自动晋升会暂停，直到有人恢复。",
        "Predictions follow, and automatic promotion pauses until somebody resumes it.",
    ),
    "rejected_note": ("未通过门禁：{reason}", "The gate rejected it: {reason}"),
    "resume_title": ("恢复 {model} 的自动晋升？", "Resume automatic promotion of {model}?"),
    "resume_note": (
        "等待中的版本可能马上上线：{versions}",
        "Versions that wait may go into production at once: {versions}",
    ),
    "pause_title": ("暂停 {model} 的自动晋升？", "Pause automatic promotion of {model}?"),
    "stop_title": ("停止 {model} 的训练？", "Stop the training of {model}?"),
    "why": ("原因（会写入记录）", "Reason (kept in the log)"),
    "why_missing": ("请写明原因", "Give a reason"),
    "done": ("完成", "Done"),
    "now_serving": ("{version} 已在线上", "{version} is in production"),
    "versions": ("版本", "Versions"),
    "created": ("时间", "Made"),
    "decision": ("结论", "Decision"),
    "decision_passed": ("通过，待晋升", "passed, waits"),
    "decision_promoted": ("已晋升", "promoted"),
    "decision_rejected": ("未通过", "rejected"),
    "decision_superseded": ("已被取代", "superseded"),
    "files_removed": ("文件已清理", "files removed"),
    "no_versions": ("还没有训练过版本。", "No version has been trained yet."),
    "learning_curve": ("学习曲线：F1 与标注量", "Learning curve: F1 against labels"),
    "documents": ("文本", "documents"),
    "corrections": ("预标注的修改", "Corrections of pre-labels"),
    "accepted": ("接受", "accepted"),
    "relabelled": ("改标签", "relabelled"),
    "resized": ("改边界", "resized"),
    "added": ("新增", "added"),
    "deleted": ("删除", "deleted"),
    "edits": ("每条修改数", "edits each"),
    "annotations": ("标注", "annotations"),
    "no_corrections": ("还没有人修改过预标注。", "Nobody has annotated over pre-labels yet."),
    "time_saved": ("预标注节省的时间", "Time saved by pre-labels"),
    "time_saved_is": (
        "节省 {share}% 的时间（95% 区间 {low}% 至 {high}%）",
        "{share} % of the time (95 % interval {low} % to {high} %)",
    ),
    "time_unknown": (
        "还无法估计：需要打开 NERLOOP_BLIND_HELD_OUT，并有足够的盲标。",
        "Not known yet: it takes NERLOOP_BLIND_HELD_OUT and enough blind annotations.",
    ),
    "advice": ("建议", "Advice"),
    "system": ("进程", "Processes"),
    "replica": ("后端副本 {name}", "Replica {name}"),
    "worker": ("工作进程 {name}", "Worker {name}"),
    "idle": ("空闲", "idle"),
    "busy": ("正在做 {job}", "busy with {job}"),
    "heard": ("最近心跳 {at}", "last heartbeat {at}"),
    "serves": ("提供", "serves"),
    "nothing_loaded": ("未加载模型", "no model loaded"),
    "no_replica": ("没有后端副本在运行", "No replica of the ML backend is alive"),
    "no_worker": ("没有工作进程在运行", "No worker is alive"),
    "refuses": ("无法提供 {version}：{reason}", "cannot serve {version}: {reason}"),
    "behind": ("应为 {version}", "should be {version}"),
    "open_project": ("打开项目", "Open the project"),
    # Data
    "label": ("标签", "Label"),
    "train_side": ("训练", "train"),
    "dev_side": ("开发", "dev"),
    "gate_side": ("门禁", "gate"),
    "total": ("合计", "total"),
    "texts": ("文本数", "Texts"),
    "characters": ("字符数", "Characters"),
    "entities_by_label": ("各标签的实体数", "Entities by label"),
    "export": ("导出 JSONL", "Export JSONL"),
    "no_labels_yet": ("这个项目还没有标注。", "Nothing is labelled in this project yet."),
    # Connect
    "step_label_studio": ("1. Label Studio", "1. Label Studio"),
    "configured": (
        "当前设置：{url}，{release}，令牌属于 {user}",
        "As it is set: {url}, release {release}, the token is {user}'s",
    ),
    "other_label_studio": ("检查另一个 Label Studio", "Check another Label Studio"),
    "address": ("地址", "Address"),
    "token": ("令牌", "Token"),
    "check": ("检查", "Check"),
    "check_found": (
        "可以使用：版本 {release}，令牌属于 {user}，能看到 {projects} 个项目。要改用它，请在 .nerloop/settings.env"
        "（或环境变量）里写入下面两行，然后重新启动。如果它在另一台机器上，还要写明 NERLOOP_BACKEND_URL"
        "（它访问本机 ML 后端的地址）和 NERLOOP_BACKEND_HOST。"
        "要让某个账号成为操作员，请运行 nerloop user add 邮箱 --role operator。",
        "It works: release {release}, the token is {user}'s, who sees {projects} projects. To use it, put these "
        "two lines into .nerloop/settings.env (or the environment) and start again. Where it is on another machine, "
        "NERLOOP_BACKEND_URL (where it reaches the ML backend) and NERLOOP_BACKEND_HOST are needed too. "
        "`nerloop user add E-MAIL --role operator` makes an account an operator.",
    ),
    "your_token": ("刚才输入的令牌", "the token you have typed"),
    "step_project": ("2. 项目", "2. Project"),
    "step_doctor": ("3. 检查每个环节", "3. Check every link"),
    "tasks": ("任务", "tasks"),
    "bound_to": ("已绑定 {model}", "bound to {model}"),
    "bind": ("绑定", "Bind"),
    "bind_again": ("重新绑定", "Bind again"),
    "bind_title": ("绑定“{title}”", "Bind “{title}”"),
    "model_name": ("模型名（业务线），如 medical", "Model (business line), such as medical"),
    "threshold": ("多少新标注触发训练", "New labels that start a training"),
    "nested": ("嵌套实体", "Nested entities"),
    "nested_unchanged": ("不改变", "as it is"),
    "nested_yes": ("允许嵌套", "entities may be nested"),
    "nested_no": ("不允许嵌套", "entities are never nested"),
    "bound": ("已绑定：项目 {project} → 模型 {model}", "Bound: project {project} → model {model}"),
    "run_doctor": ("开始检查", "Run the checks"),
    "all_well": ("全部正常", "All is well"),
    "some_wrong": ("{count} 项有问题", "{count} are not right"),
    "no_projects": (
        "Label Studio 里还没有项目，先在那里新建一个。",
        "Label Studio has no project yet; make one there first.",
    ),
}


class Texts:
    """The texts in one language: `texts("found", count=3, …)`."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in."""
        return TEXTS[key][LANGUAGES.index(self.language)].format(**values)


def language_of(chosen: str | None, accepted: str) -> Language:
    """Return the language that was chosen, else Chinese, unless a browser's Accept-Language begins with another."""
    for language in LANGUAGES:
        if chosen == language:
            return language
    first = accepted.partition(",")[0].strip().lower()
    return "zh" if not first or first.startswith("zh") else "en"
