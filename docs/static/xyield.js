// What the theme leaves undone: names for those who hear the page, and boxes that the keyboard can scroll.
(() => {
  "use strict";
  const BOXES = "pre, .tall, .pst-scrollable-table-container, .cell_output .output, div.math, .cell_output";

  function nameSummaries() {
    for (const summary of document.querySelectorAll("summary")) {
      if (summary.textContent.trim()) summary.removeAttribute("aria-label"); // what is read is what is seen
      else {
        const link = summary.closest("li")?.querySelector("a");
        summary.setAttribute("aria-label", `Pages of ${link ? link.textContent.trim() : "this part"}`);
      }
    }
  }

  function openBoxes() {
    for (const box of document.querySelectorAll(BOXES)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      if (scrolls && getComputedStyle(box).overflowX !== "visible") box.tabIndex = 0;
    }
  }

  function nameSidebar() {
    const sidebar = document.querySelector(".bd-sidebar-primary");
    sidebar?.setAttribute("role", "complementary");
    sidebar?.setAttribute("aria-label", "Site");
  }

  document.addEventListener("DOMContentLoaded", () => { nameSummaries(); nameSidebar(); openBoxes(); });
  window.addEventListener("load", openBoxes);
  window.addEventListener("resize", openBoxes);
})();
