(() => {
  const out = [];
  const wide = document.documentElement.clientWidth;
  const name = (node) => {
    const one = node.nodeType === 1 ? node : node.parentElement;
    return one.tagName.toLowerCase() + (one.getAttribute("class") ? "." + one.getAttribute("class") : "") + " " + JSON.stringify((node.textContent || "").trim().slice(0, 40));
  };
  // What only screen readers get, and what scrolls inside a frame of its own, is outside of the picture.
  const apart = (one) => one.closest(".aside, .skip, .scroll") !== null || (() => {
    for (let at = one; at && at.nodeType === 1; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.display === "none" || style.visibility === "hidden" || style.clipPath !== "none") return true;
    }
    return false;
  })();
  if (document.documentElement.scrollWidth > wide) out.push("the page is " + document.documentElement.scrollWidth + " wide in a window of " + wide);
  for (const one of document.body.querySelectorAll("*")) {
    if (one.closest("svg") && one.tagName.toLowerCase() !== "text" && !one.matches("svg.graph, svg.spark")) continue;
    const box = one.getBoundingClientRect();
    if (box.width === 0 || box.height === 0 || apart(one)) continue;
    if (box.right > wide + 1 || box.left < -1) out.push(name(one) + " reaches from " + Math.round(box.left) + " to " + Math.round(box.right) + " in a window of " + wide);
  }
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.data.trim() || ["SCRIPT", "STYLE"].includes(node.parentElement.tagName) || apart(node.parentElement)) continue;
    const details = node.parentElement.closest("details:not([open])");
    if (details && !node.parentElement.closest("summary")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (box.width > 1 && box.height > 1) texts.push({ node, box });
  }
  texts.sort((a, b) => a.box.top - b.box.top);
  for (let i = 0; i < texts.length; i += 1) {
    for (let j = i + 1; j < texts.length && texts[j].box.top < texts[i].box.bottom - 4; j += 1) {
      const [a, b] = [texts[i], texts[j]];
      if (a.node === b.node) continue;
      const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      // Lines of text stand closer than their boxes: only what covers letters counts.
      if (across > 2 && down > 0.35 * Math.min(a.box.height, b.box.height)) out.push(name(a.node) + " lies over " + name(b.node));
    }
  }
  return out.slice(0, 12);
})()
