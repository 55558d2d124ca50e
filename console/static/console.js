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

  // Whoever logs out leaves no text behind, in no tab.
  forget() {
    sessionStorage.clear();
    localStorage.setItem("nerloop.logged_out", Date.now());
  },
};

nerloop.remember("nerloop_zone", Intl.DateTimeFormat().resolvedOptions().timeZone);

window.addEventListener("storage", (event) => {
  if (event.key === "nerloop.logged_out") {
    sessionStorage.clear();
    location.href = "/login";
  }
});

document.addEventListener("visibilitychange", () => window.emitEvent?.(document.hidden ? "unseen" : "seen"));
