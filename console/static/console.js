// What the browser does by itself: remember language and theme, read which characters of a text are selected.
"use strict";

const nerloop = {
  choose(cookie, value) {
    document.cookie = `${cookie}=${value}; path=/; max-age=31536000; samesite=strict`;
    location.reload();
  },

  // Offsets are code points, as everywhere in nerloop; a browser counts UTF-16 units.
  length(text) {
    return Array.from(text).length;
  },

  offset(root, node, place) {
    const before = document.createRange();
    before.selectNodeContents(root);
    before.setEnd(node, place);
    return nerloop.length(before.toString());
  },

  // What somebody has pointed at: {start, end} of the selected characters, or {entity} where one was clicked.
  pointed(root, target) {
    const selection = getSelection();
    if (selection.rangeCount && !selection.isCollapsed) {
      const range = selection.getRangeAt(0);
      if (root.contains(range.startContainer) && root.contains(range.endContainer)) {
        return {
          start: nerloop.offset(root, range.startContainer, range.startOffset),
          end: nerloop.offset(root, range.endContainer, range.endOffset),
        };
      }
    }
    const mark = target instanceof Element ? target.closest("mark[data-entity]") : null;
    return { entity: mark && root.contains(mark) ? Number(mark.dataset.entity) : null };
  },

  // Keys on a text: arrows move a selection of one character, with Shift they extend it; the others are passed on.
  key(root, event) {
    const arrows = { ArrowLeft: "backward", ArrowRight: "forward", ArrowUp: "backward", ArrowDown: "forward" };
    const unit = event.key === "ArrowUp" || event.key === "ArrowDown" ? "line" : "character";
    const direction = arrows[event.key];
    if (direction) {
      event.preventDefault();
      const selection = getSelection();
      if (!selection.rangeCount || !root.contains(selection.anchorNode)) {
        selection.collapse(root, 0);
      }
      if (!event.shiftKey) {
        if (!selection.isCollapsed) {
          direction === "forward" ? selection.collapseToEnd() : selection.collapseToStart();
        }
        if (unit === "line") {
          selection.modify("move", direction, unit);
        }
      }
      selection.modify("extend", direction, unit === "line" && !event.shiftKey ? "character" : unit);
      return { ...nerloop.pointed(root, null), key: "" };
    }
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return null;
    }
    if (event.key === "Enter" && event.target !== root) {
      return { ...nerloop.pointed(root, event.target), key: "" };
    }
    if (/^([1-9]|Delete|Backspace|Escape|[[\]{}])$/.test(event.key)) {
      event.preventDefault();
      return { key: event.key };
    }
    return null;
  },

  // A text that goes from one page to the next stays in this tab: never in an address, never on a server.
  keep(name, value) {
    sessionStorage.setItem(`nerloop.${name}`, JSON.stringify(value));
  },

  kept(name) {
    return JSON.parse(sessionStorage.getItem(`nerloop.${name}`) ?? "null");
  },
};
