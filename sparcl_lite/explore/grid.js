// A table whose cells can be clicked, or chosen with Enter; a click on a heading sorts by it.
function render({ model, el }) {
  let order = null; // [column, ascending]
  const number = (text) => parseFloat(text.replace(/,/g, ""));
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!isNaN(x) && !isNaN(y)) return x - y;
    return isNaN(x) === isNaN(y) ? a.localeCompare(b) : isNaN(x) ? 1 : -1;
  };
  const choose = (row, column) => {
    model.set("chosen", [row, column]);
    model.save_changes();
  };
  function draw() {
    const columns = model.get("columns");
    const rows = model.get("rows").map((cells, number) => ({ cells, number }));
    const [chosenRow, chosenColumn] = model.get("chosen").length ? model.get("chosen") : [-1, -1];
    if (order) rows.sort((a, b) => (order[1] ? 1 : -1) * compare(a.cells[order[0]][0], b.cells[order[0]][0]));
    const table = document.createElement("table");
    table.className = "kit-grid";
    table.createCaption().textContent = model.get("caption");
    const head = table.createTHead().insertRow();
    columns.forEach((name, column) => {
      const th = document.createElement("th");
      const button = document.createElement("button");
      button.textContent = name + (order && order[0] === column ? (order[1] ? " ▲" : " ▼") : "");
      button.title = "sort by " + name;
      button.onclick = () => {
        order = [column, !(order && order[0] === column && order[1])];
        draw();
      };
      th.scope = "col";
      th.append(button);
      head.append(th);
    });
    const body = table.createTBody();
    for (const { cells, number } of rows) {
      const line = body.insertRow();
      cells.forEach(([text, tip, colour], column) => {
        const cell = line.insertCell();
        const button = document.createElement("button");
        button.textContent = text;
        button.title = tip;
        button.setAttribute("aria-pressed", number === chosenRow && column === chosenColumn);
        button.onclick = () => choose(number, column);
        if (colour) cell.style.background = colour;
        if (colour) button.style.color = "#1a1a1a";
        cell.append(button);
      });
    }
    const frame = document.createElement("div");
    frame.className = "kit-frame";
    frame.append(table);
    el.replaceChildren(frame);
  }
  for (const name of ["rows", "columns", "chosen", "caption"]) model.on(`change:${name}`, draw);
  draw();
}
export default { render };
