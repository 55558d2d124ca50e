"""Asks Label Studio whether an e-mail address and a password are one of its accounts, by its own login form.

Its API knows tokens only, so that what a browser does is done here.
"""

import httpx

from nerloop.errors import LabelStudioError, LabelStudioUnreachable

TIMEOUT_SECONDS = 10
SESSION_COOKIE = "sessionid"  # Django's, which a login makes anew


def is_account(url: str, email: str, password: str) -> bool:
    """Tell whether an account of the Label Studio at `url` has this password.

    Raises `LabelStudioUnreachable` where it does not answer, `LabelStudioError` where what answers has no such form.
    """
    form = f"{url.rstrip('/')}/user/login/"
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS) as browser:
            browser.get(form)
            token = browser.cookies.get("csrftoken")
            if token is None:
                raise LabelStudioError(f"{form} is no login form of Label Studio's; is LABEL_STUDIO_URL right?")
            fields = {"email": email, "password": password, "csrfmiddlewaretoken": token}
            answer = browser.post(form, data=fields, headers={"Referer": form})
            if answer.status_code == 200:  # the form once more
                return False
            # A proxy in front of it may redirect too, whatever the password.
            if answer.status_code != 302 or SESSION_COOKIE not in answer.cookies:
                raise LabelStudioError(f"{form} answered {answer.status_code}; see Label Studio's log")
            browser.get(f"{url.rstrip('/')}/logout")  # no session of it stays behind
            return True
    except httpx.TransportError as error:
        raise LabelStudioUnreachable(
            f"{form}: Label Studio does not answer ({type(error).__name__}); is it running at LABEL_STUDIO_URL?"
        ) from error
