// Filters and sorts the table of claims; without this file it is a plain table.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("scoreboard");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const filters = Object.fromEntries([...document.querySelectorAll("[data-filter]")].map((f) => [f.dataset.filter, f]));
  const show = () => {
    const words = filters.text.value.toLowerCase();
    for (const row of rows) {
      const chosen = ["paper", "runs", "verdict"].every((name) => ["", row.dataset[name]].includes(filters[name].value));
      row.hidden = !(chosen && row.textContent.toLowerCase().includes(words));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    document.querySelector(".filters output").textContent = `${shown} of ${rows.length} verdicts`;
  };
  const value = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = new Intl.Collator(undefined, { numeric: true }).compare;
      const compare = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        const numbers = [Number(x), Number(y)];
        return numbers.some(Number.isNaN) ? order(x, y) : numbers[0] - numbers[1];
      };
      rows.sort((a, b) => (down ? -1 : 1) * compare(a, b)).forEach((row) => body.append(row));
    });
  });
  const fromAddress = () => {
    for (const [name, wanted] of new URLSearchParams(location.hash.slice(1))) {
      if (filters[name]) filters[name].value = wanted;
    }
    show();
  };
  Object.values(filters).forEach((filter) => filter.addEventListener("input", show));
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
});
