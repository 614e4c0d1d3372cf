"""Reasonable preference reversals: two responses, and for each a criterion and a scenario under which it is better.

Pitis et al. 2024 (RPR). `response_a` is right under `criteria_x` and `scenario_x`, `response_b` under those of y, so a
row is two opposite comparisons for criteria and two for scenarios; their `aspect` says which. Profiles label the same
rows once more and stay in `extra`. Split by prompt: both directions of a row belong on one side.
"""

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError

_NEEDED = ("prompt", "response_a", "response_b", "criteria_x", "criteria_y")
_KINDS = ("criteria", "scenario")


def _convert(fields: Fields, given: Given) -> list[Made]:
    first, second = fields.text("response_a"), fields.text("response_b")
    prompt = fields.text("prompt")
    contexts = {kind: [fields.get(f"{kind}_{side}") for side in "xy"] for kind in _KINDS}
    user, extra = fields.user(), fields.extra()
    made: list[Made] = []
    for kind, (of_first, of_second) in contexts.items():
        if not all(isinstance(context, str) and context.strip() for context in (of_first, of_second)):
            fields.skip(f"no {kind} for both responses")
        elif of_first == of_second:
            fields.skip(f"the same {kind} for both responses")
        else:
            about = {"prompt": prompt, "aspect": kind, "user": user, "extra": extra}
            made.append(("comparison", {**about, "context": of_first, "chosen": first, "rejected": second}))
            made.append(("comparison", {**about, "context": of_second, "chosen": second, "rejected": first}))
    if not made:
        raise RowError("there is neither a criterion nor a scenario for each response")
    return made


def _recognise(look: Look) -> str | None:
    if look.has(*_NEEDED):
        return "it has two responses and `criteria_x` and `criteria_y`, under which each is better"
    return None


REVERSALS = Format("reversals", "reasonable preference reversals (RPR)", _NEEDED, _recognise, _convert)
