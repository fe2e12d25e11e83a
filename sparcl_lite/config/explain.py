"""How an error of a configuration is told: in one line."""

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """One line naming the field, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if not field or message.startswith(f"{field}.") or " = " in message.partition(":")[0]:
        return message  # which names the field itself
    if first["type"] == "extra_forbidden":
        return f"{field} is not a parameter of this configuration"
    if first["type"] == "missing":
        return f"{field} is missing"
    return f"{field} = {first['input']!r}: {message[0].lower()}{message[1:]}"
