"""How an error of a configuration is told: in one line."""

from pydantic import ValidationError

from sparcl_lite.config.sparse import SPARSE_KINDS


def explain(error: ValidationError) -> str:
    """One line naming the field, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "union_tag_invalid":
        return f"sparse.kind = {first['ctx']['tag']!r}: unknown; allowed: {', '.join(SPARSE_KINDS)}"
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["sparse"]:
        del place[1:2]  # the kind, by which pydantic names the member of the union
    field = ".".join(place)
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return message
    if first["type"] == "extra_forbidden":
        return f"{field} is not a parameter of this configuration"
    if first["type"] == "missing":
        return f"{field} is missing"
    return f"{field} = {first['input']!r}: {message[0].lower()}{message[1:]}"
