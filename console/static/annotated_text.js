// A text with its entities, in which somebody selects characters and entities by mouse, finger or keys.
// Offsets are code points, as everywhere in nerloop; a browser counts UTF-16 units.

const SETTLED = 150; // milliseconds without a change after which a selection made with a phone's handles is taken
const ARROWS = {
  ArrowLeft: ["backward", "character"],
  ArrowRight: ["forward", "character"],
  ArrowUp: ["backward", "line"],
  ArrowDown: ["forward", "line"],
};
const KEYS = /^([1-9]|Delete|Backspace|Escape)$/; // what the page acts upon, as upon the next
const BRACKETS = /^[[\]{}]$/;

export default {
  template: `<div v-html="content" tabindex="0" @click="click" @keydown="press"></div>`,
  props: { content: String },
  emits: ["select", "choose", "press"], // {start, end}; {entity: its number or null}; {key}

  mounted() {
    this.drawn = this.content;
    this.at = null; // {anchor, focus} of the selection, or of the caret, which outlives a redraw
    this.taken = null; // the selection that the page knows of
    this.life = new AbortController(); // ends with the element, and its listeners with it
    const options = { capture: true, signal: this.life.signal };
    document.addEventListener("selectionchange", this.changed, options);
    document.addEventListener("pointerdown", this.pressed, options);
    document.addEventListener("pointerup", this.released, options);
    document.addEventListener("pointercancel", this.released, options);
  },

  unmounted() {
    clearTimeout(this.waiting);
    this.life.abort();
  },

  // It is called whenever anything on the page changes; only another content has replaced our elements.
  beforeUpdate() {
    this.isRedrawn = this.drawn !== this.content;
    this.hadFocus = this.$el.contains(document.activeElement);
    this.drawn = this.content;
  },

  // Other entities mean other elements: focus and selection, which went with the old ones, are put back. Whoever is at
  // another element keeps the focus there, which a selection would take; the next arrow goes on where this one was.
  updated() {
    if (!this.isRedrawn) return;
    if (this.hadFocus || document.activeElement === document.body) this.restore();
    else if (this.$el.contains(getSelection().anchorNode)) this.forget();
    if (this.hadFocus) (this.$el.querySelector("mark.active") ?? this.$el).focus({ preventScroll: true });
  },

  methods: {
    pressed(event) {
      this.isDown = event.button === 0; // a menu may swallow the end of another one
    },

    released() {
      this.isDown = false;
      this.take();
    },

    changed() {
      const selection = getSelection();
      if (selection.isCollapsed && this.$el.contains(selection.anchorNode)) {
        this.taken = null; // the same characters, selected once more, are news
      }
      clearTimeout(this.waiting);
      this.waiting = setTimeout(this.take, SETTLED);
    },

    // Tell the page which characters are selected, once, and not while the mouse is still moving.
    take() {
      clearTimeout(this.waiting);
      const at = this.isDown ? null : this.selected();
      if (!at) return;
      this.at = at;
      const [start, end] = [Math.min(at.anchor, at.focus), Math.max(at.anchor, at.focus)];
      if (start < end && this.span(at) !== this.taken) {
        this.taken = this.span(at);
        this.$emit("select", { start, end });
      }
    },

    // The part of the document's selection that lies in this text, or null.
    selected() {
      const selection = getSelection();
      if (!selection.rangeCount || !selection.getRangeAt(0).intersectsNode(this.$el)) return null;
      return {
        anchor: this.offset(selection.anchorNode, selection.anchorOffset),
        focus: this.offset(selection.focusNode, selection.focusOffset),
      };
    },

    offset(node, place) {
      const whole = document.createRange();
      whole.selectNodeContents(this.$el);
      const beside = whole.comparePoint(node, place); // a selection may begin before the text, or end behind it
      if (beside > 0) return Array.from(this.$el.textContent).length;
      if (beside < 0) return 0;
      whole.setEnd(node, place);
      return Array.from(whole.toString()).length;
    },

    // The node and place of an offset; the text's end where it has become shorter.
    place(offset) {
      const walker = document.createTreeWalker(this.$el, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const characters = Array.from(walker.currentNode.data);
        if (offset <= characters.length) return [walker.currentNode, characters.slice(0, offset).join("").length];
        offset -= characters.length;
      }
      return [this.$el, this.$el.childNodes.length];
    },

    // Select again what was selected before a redraw, which is no news to the page. The mouse goes on from where it is.
    restore() {
      if (!this.at || this.isDown) return;
      this.taken = this.span(this.at);
      getSelection().setBaseAndExtent(...this.place(this.at.anchor), ...this.place(this.at.focus));
    },

    span(at) {
      return `${Math.min(at.anchor, at.focus)} ${Math.max(at.anchor, at.focus)}`;
    },

    forget() {
      getSelection().removeAllRanges();
      this.taken = null;
    },

    click(event) {
      if (getSelection().isCollapsed) this.choose(event.target.closest("mark"));
    },

    choose(mark) {
      this.at = this.selected(); // the caret, or nothing: a redraw must not put back what was selected
      this.$emit("choose", { entity: mark ? Number(mark.dataset.entity) : null });
    },

    // Arrows select a character, with Shift they extend the selection; the other keys are the page's.
    press(event) {
      if (event.key in ARROWS) {
        event.preventDefault();
        this.arrow(...ARROWS[event.key], event.shiftKey);
      } else if ((event.ctrlKey || event.metaKey || event.altKey) && !BRACKETS.test(event.key)) {
        return; // but some keyboards have the brackets behind AltGr or Option
      } else if ((event.key === "Enter" || event.key === " ") && event.target !== this.$el) {
        event.preventDefault();
        getSelection().collapse(event.target, 0);
        this.choose(event.target);
      } else if (KEYS.test(event.key) || BRACKETS.test(event.key)) {
        event.preventDefault();
        this.isDown = false;
        if (event.key === "Escape" && this.selected()) getSelection().collapseToStart();
        this.take();
        this.$emit("press", { key: event.key });
      }
    },

    arrow(direction, unit, extends_) {
      const selection = getSelection();
      if (!this.$el.contains(selection.anchorNode)) {
        this.at ??= { anchor: 0, focus: 0 };
        this.restore();
      }
      if (!extends_) {
        if (!selection.isCollapsed) {
          direction === "forward" ? selection.collapseToEnd() : selection.collapseToStart();
        }
        if (unit === "line") selection.modify("move", direction, unit);
      }
      selection.modify("extend", direction, extends_ ? unit : "character");
      this.isDown = false;
      this.take();
      if (!this.$el.contains(selection.focusNode)) this.restore(); // it went on behind the text's end
    },
  },
};
