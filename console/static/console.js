// What the browser does by itself: remember choices and texts, and say whether somebody sees the page.
"use strict";

const nerloop = {
  choose(cookie, value) {
    nerloop.remember(cookie, value);
    location.reload();
  },

  remember(cookie, value) {
    document.cookie = `${cookie}=${value}; path=/; max-age=31536000; samesite=strict`;
  },

  // A text that goes from one page to the next stays in this tab: never in an address, never on a server.
  keep(name, value) {
    sessionStorage.setItem(`nerloop.${name}`, JSON.stringify(value));
  },

  kept(name) {
    return JSON.parse(sessionStorage.getItem(`nerloop.${name}`) ?? "null");
  },

  // Whoever logs out leaves no text behind: none that the server still sends, none in another tab, nor in one that
  // sleeps or is opened again later.
  forget() {
    nerloop.leave();
    localStorage.setItem("nerloop.logged_out", Date.now());
  },

  leave() {
    sessionStorage.clear();
    nerloop.keep = () => {};
  },
};

const loggedOut = localStorage.getItem("nerloop.logged_out") ?? "";
if (sessionStorage.getItem("nerloop.after") !== loggedOut) {
  sessionStorage.clear();
  sessionStorage.setItem("nerloop.after", loggedOut);
}

nerloop.remember("nerloop_zone", Intl.DateTimeFormat().resolvedOptions().timeZone);

window.addEventListener("storage", (event) => {
  if (event.key === "nerloop.logged_out") {
    nerloop.leave();
    location.href = "/login";
  }
});

document.addEventListener("visibilitychange", () => window.emitEvent?.(document.hidden ? "unseen" : "seen"));
