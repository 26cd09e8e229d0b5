// Runs before the page is drawn, so that a chosen theme never flashes in the other colours.
"use strict";
try {
  const theme = JSON.parse(localStorage.getItem("halfbyte.theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; the system's theme is then used.
}
