"""`penchant chat`: a conversation that is steered by what was learnt about a person, and says by what."""

import sys
from pathlib import Path

import click

from penchant.apps.learn import loaded
from penchant.apps.outcome import Outcome
from penchant.apps.portraits import wishes_of
from penchant.chat import chat_model
from penchant.encoders import Attributes, Items
from penchant.errors import NotFittedError, SettingsError, UnknownNameError, nearest
from penchant.steer.in_context import brief


def chat(
    message: str | None = None,
    *,
    user: str | None = None,
    learnt: Path = Path("model"),
    model: str = "small-chat",
    n: int = 4,
    max_new_tokens: int = 160,
    seed: int = 0,
) -> Outcome:
    """Talk to a model; with a user, its wishes go into the system text and the best of n answers for them is shown.

    Args:
        message: one message, answered at once; without it a conversation that an empty line ends.
        user: whose wishes count; nobody's without it.
        learnt: folder that `penchant learn` wrote.
        model: small-chat, a .gguf file, or the URL of an OpenAI-compatible server.
        n: answers to choose from.
        max_new_tokens: longest answer.
        seed: of the sampling.
    """
    engine = chat_model(model)
    people, wishes = None, []
    if user is not None:
        people = loaded(learnt)
        if user not in people.users_:
            raise UnknownNameError(f"Nothing is known of {user!r} in {learnt}: {nearest(user, people.users_)}")
        if isinstance(people.encoder, (Attributes, Items)):
            raise SettingsError(
                f"{learnt} was learnt from {'names' if isinstance(people.encoder, Items) else 'numbers'}, so it cannot "
                "judge what is said in a conversation; learn from texts, such as votes on answers."
            )
        wishes = wishes_of(people, user)
        used = " ".join(wishes) or "nothing that can be said in words; the answer is chosen by the learnt reward"
        click.echo(f"[learnt about {user}: {used}]", err=True)
    told = brief(wishes=wishes).text
    history: list[dict[str, str]] = [{"role": "system", "content": told}] if told else []
    turns = []
    while True:
        text = message if message is not None else _asked()
        if not text:
            break
        history.append({"role": "user", "content": text})
        answers = engine.complete(history, n=n if people else 1, temperature=0.7, max_tokens=max_new_tokens, seed=seed)
        answers = [answer for answer in answers if answer.strip()]
        if not answers:
            raise NotFittedError(f"{engine.name} gave only empty answers; raise --max-new-tokens.")
        rewards = people.reward([text] * len(answers), answers, user=user) if people else [0.0] * len(answers)
        best = max(range(len(answers)), key=lambda row: rewards[row])
        history.append({"role": "assistant", "content": answers[best]})
        turns.append({"message": text, "answer": answers[best], "chosen_from": len(answers)})
        if message is not None:
            break
        click.echo(answers[best])
    said = str(turns[-1]["answer"]) if message is not None and turns else ""
    return Outcome({"user": user, "wishes": wishes, "turns": turns}, said)


def _asked() -> str:
    try:
        return str(click.prompt("you", default="", show_default=False, err=not sys.stdout.isatty()))
    except click.Abort:
        return ""
