"""The log-in page: a plain form, so that a browser's password manager knows it and nothing is loaded before."""

from html import escape

from console.api import ApiProblem
from console.layout import Look, said
from console.texts import Texts
from nerloop import __version__

SAID = {401: "wrong_password", 422: "wrong_password", 429: "too_many_tries"}  # in the reader's language


def login_html(look: Look, problem: ApiProblem | None = None, name: str = "") -> str:
    """Return the page; `problem` says why the last try failed, and `name` is what was typed then."""
    t = Texts(look.language)
    warning = ""
    if problem is not None:
        text = t(SAID[problem.status]) if problem.status in SAID else said(t, problem)
        warning = f'<p class="warning" role="alert">{escape(text)}</p>'
    return f"""<!doctype html>
<html lang="{"zh-CN" if look.language == "zh" else "en"}">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>nerloop · {t("log_in")}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/console.css?{__version__}">
<script src="/static/console.js?{__version__}"></script>
</head>
<body class="theme-{look.theme} login">
<main class="panel">
<h1 class="title">nerloop</h1>
<p>{escape(t("log_in_with"))}</p>
{warning}
<form method="post" action="/login">
<label>{t("name")}<input name="name" value="{escape(name)}" autocomplete="username" required autofocus></label>
<label>{t("password")}
<input name="password" type="password" autocomplete="current-password" required></label>
<button>{t("log_in")}</button>
</form>
</main>
</body>
</html>"""
