import io
import itertools
import re
import socket
import subprocess
import sys
import time
import wave

import httpx
import numpy as np
import pytest
import yaml

from penchant.apps.arena import music
from penchant.apps.arena.calls import Calls
from penchant.apps.arena.disguise import loudness, readable
from penchant.apps.arena.generation import both
from penchant.apps.arena.music import composers, sound
from penchant.apps.arena.music.brief import PROGRAMS, Brief, brief, generator
from penchant.apps.arena.registry import Entry, Http, read_registry
from penchant.apps.arena.serve import EXAMPLE
from penchant.apps.arena.systems import GenerationError, Request
from penchant.errors import DataError, MissingExtraError, SettingsError

COMPOSERS = {"chorale": composers.chorale, "groove": composers.groove}
SYSTEMS = {"chorale": music.chorale, "groove": music.groove}
PROMPTS = ("a sad waltz", "epic battle at 140 bpm", "calm lullaby in E flat major", "techno in G minor", "grey cat")


def _playable():
    try:
        import tinysoundfont  # noqa: F401

        sound.soundfont()
    except ImportError:
        return False
    return True


needs_sound = pytest.mark.skipif(not _playable(), reason=f"no synthesiser or soundfont: {sound.INSTALL}")


def _written(name, prompt, seed=0, **asked):
    request = Request(prompt, "audio", seed=seed, **asked)
    rng = generator(request, name)
    plan = brief(request, rng)
    return plan, COMPOSERS[name](plan, rng)


def _plan(**changes):
    usual = {
        "tonic": 0, "mode": "major", "bpm": 120.0, "beats": 4, "seconds": 8.0, "liveliness": 0.5, "texture": "held",
        "instruments": ("flute", "organ"), "drums": False,
    }  # fmt: skip
    return Brief(**usual | changes)


def test_words_of_a_prompt_choose_key_mode_tempo_metre_and_instruments():
    def asked(prompt, **more):
        return brief(Request(prompt, "audio", **more), np.random.default_rng(0))

    plan = asked("Slow waltz for cello and harp, in B-flat minor, 72 BPM, without drums")
    assert (plan.tonic, plan.mode, plan.bpm, plan.beats) == (10, "minor", 72, 3)
    assert plan.instruments == ("cello", "harp")
    assert not plan.drums
    assert asked("happy").mode == "major"
    assert asked("sad").mode == "minor"
    assert asked("sad").bpm < asked("happy").bpm
    assert asked("72 bpm", bpm=93.5).bpm == 93.5
    assert "piano" not in asked("techno without piano").instruments


@pytest.mark.parametrize("name", COMPOSERS)
def test_every_note_lies_in_the_key_and_the_piece_ends_on_the_tonic(name):
    for prompt, seed in itertools.product(PROMPTS, range(10)):
        plan, score = _written(name, prompt, seed, duration=25)
        steps = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}[plan.mode]
        key = {(plan.tonic + step) % 12 for step in steps}
        if name == "chorale":
            key.add((plan.tonic + 11) % 12)  # the leading note in minor
        played = [note for note in score.notes if score.parts[note.part] != composers.DRUMS]
        assert {note.pitch % 12 for note in played} <= key
        last = [note for note in played if note.start == max(other.start for other in played)]
        assert min(last, key=lambda note: note.pitch).pitch % 12 == plan.tonic
        assert len({note.pitch % 12 for note in last}) == 3


def test_four_voices_keep_the_rules_of_voice_leading():
    n_moves = 0
    for seed, mode in itertools.product(range(40), ("major", "minor")):
        plan = _plan(tonic=seed % 12, mode=mode)
        voices = composers.four_voices(plan, 5 + seed % 28, np.random.default_rng(seed)).tolist()
        leading = (plan.tonic + 11) % 12
        for chord in voices:
            assert chord == sorted(set(chord)), "voices cross"
            assert len({pitch % 12 for pitch in chord}) == 3, "a chord is incomplete"
            assert [pitch % 12 for pitch in chord].count(leading) <= 1
            assert max(chord[2] - chord[1], chord[3] - chord[2]) <= 12
        for old, new in itertools.pairwise(voices):
            n_moves += 1
            for a, b in itertools.combinations(range(4), 2):
                if old[a] != new[a] and old[b] != new[b]:
                    pair = ((old[b] - old[a]) % 12, (new[b] - new[a]) % 12)
                    assert pair not in {(0, 0), (7, 7)}, f"parallels in {old} {new}"
            for a in range(3):
                assert new[a] <= old[a + 1], "a voice overlaps the one above"
                assert new[a + 1] >= old[a], "a voice overlaps the one below"
            for a, b in zip(old, new, strict=True):
                assert abs(b - a) not in (6, 10, 11)
                assert abs(b - a) <= 12
                if {a % 12, b % 12} == {leading, (plan.tonic + 8) % 12}:
                    assert abs(b - a) != 3, "an augmented second"
                if a % 12 == leading and any(pitch % 12 == plan.tonic for pitch in new):
                    assert b == a + 1, "the leading note does not rise"
        assert voices[-2][0] % 12 == (plan.tonic + 7) % 12, "no dominant at the end"
        assert voices[-1][0] % 12 == voices[-1][3] % 12 == plan.tonic
    assert n_moves > 1000


@pytest.mark.parametrize("n_chords", [1, 2, 3, 8, 9, 10, 17, 200])
def test_a_progression_has_as_many_chords_as_asked_and_ends_with_a_cadence(n_chords):
    for seed in range(30):
        degrees = composers.progression(n_chords, np.random.default_rng(seed))
        assert len(degrees) == n_chords
        assert degrees[-1] == 0
        if n_chords > 1:
            assert degrees[-2] == 4
        assert not any(a in (4, 6) and b in (1, 3) for a, b in itertools.pairwise(degrees[:8])), "a dominant goes back"


def test_euclidean_rhythms_are_as_even_as_can_be():
    for n_steps, n_onsets in ((8, 3), (8, 5), (12, 5), (16, 5), (16, 7), (13, 4)):
        pattern = composers.euclid(n_onsets, n_steps)
        onsets = np.flatnonzero(pattern)
        gaps = np.diff([*onsets, n_steps + onsets[0]])
        assert pattern.sum() == n_onsets
        assert onsets[0] == 0
        assert set(gaps) <= {n_steps // n_onsets, -(-n_steps // n_onsets)}


@pytest.mark.parametrize("name", COMPOSERS)
def test_bars_fall_on_the_tempo_and_notes_fill_the_duration_to_its_end(name):
    _, score = _written(name, "a march", duration=17.3, bpm=97)
    end = 17.3 * 97 / 60
    assert score.bpm == 97
    assert max(note.start + note.length for note in score.notes) == pytest.approx(end, abs=1e-9)
    starts = {note.start for note in score.notes}
    assert set(range(0, int(end) // 4 * 4, 4)) <= starts
    assert all(start * 4 == int(start * 4) for start in starts), "off the grid of sixteenths"


@pytest.mark.parametrize("name", COMPOSERS)
def test_other_prompts_and_seeds_give_other_music_and_the_same_the_same(name):
    scores = [_written(name, prompt, seed)[1] for prompt in PROMPTS for seed in (0, 1)]
    assert len({score.notes for score in scores}) == len(scores)
    assert _written(name, PROMPTS[0])[1] == _written(name, PROMPTS[0])[1]


@pytest.mark.parametrize("name", COMPOSERS)
@pytest.mark.parametrize("seconds", [1.0, 2.0, 300.0])
def test_very_short_and_very_long_pieces_can_be_written(name, seconds):
    _, score = _written(name, "epic", duration=seconds)
    assert score.notes
    assert all(note.length > 0 and 0 <= note.pitch < 128 and 0 < note.velocity < 128 for note in score.notes)


def test_what_they_cannot_do_is_an_error_that_says_so():
    for system in SYSTEMS.values():
        with pytest.raises(DataError, match="asked for a voice"):
            system(Request("a song", "audio", instrumental=False))
        with pytest.raises(DataError, match="asked for 'text'"):
            system(Request("a song"))
        with pytest.raises(DataError, match="between 1 and 300 seconds: got 900"):
            system(Request("a song", "audio", duration=900))
        with pytest.raises(DataError, match="between 30 and 300 beats"):
            system(Request("a song", "audio", bpm=2))


def test_a_missing_synthesiser_or_soundfont_names_the_command_that_installs_it(monkeypatch):
    _, score = _written("groove", "x", duration=1)
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps tinysoundfont"):
        sound.played(score)
    monkeypatch.setattr(sound.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'penchant[music]'")):
        sound.soundfont()


@needs_sound
def test_a_soundfont_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "mine.sf2").write_bytes(b"no soundfont")
    with pytest.raises(SettingsError, match=r"'mine.sf2' cannot be read"):
        music.groove(Request("x", "audio", duration=1), soundfont=str(tmp_path / "mine.sf2"))


@needs_sound
@pytest.mark.parametrize("name", SYSTEMS)
def test_clips_have_the_exact_length_one_loudness_no_tags_and_the_same_bytes_again(name):
    for prompt, seconds in zip(PROMPTS, (1.0, 3.21, 7.0, 8.5, 5.55), strict=True):
        request = Request(prompt, "audio", duration=seconds, seed=3)
        made = SYSTEMS[name](request)
        with wave.open(io.BytesIO(made.data)) as file:
            assert file.getnframes() == round(seconds * 48_000)
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48_000, 2, 2)
        assert len(made.data) == 44 + 4 * round(seconds * 48_000), "more than the header and the samples"
        samples = readable(made, "audio")
        assert loudness(samples) == pytest.approx(sound.LOUDNESS, abs=0.1)
        assert np.abs(samples).max() < 10 ** (-1 / 20)
        assert made.seconds == pytest.approx(seconds, abs=1 / 48_000)
        assert SYSTEMS[name](request).data == made.data


def _energy(samples, pitch, harmonics=1):
    """Share of the energy within 20 cents of a pitch and of its next harmonics."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / sound.RATE)
    first = 440 * 2 ** ((pitch - 69) / 12)
    near = [np.abs(np.log2(np.maximum(hertz, 1) / first / k)) < 20 / 1200 for k in range(1, harmonics + 1)]
    return spectrum[np.any(near, axis=0)].sum() / spectrum.sum()


@needs_sound
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_instrument_sounds_at_the_written_pitch_and_time(name):
    for pitch in (48, 57, 69, 76):
        note = composers.Note(1.0, 2.0, pitch, 100, 0)
        samples = sound.played(composers.Score(120.0, 2.5, (PROGRAMS[name],), (note,))).mean(axis=1)
        start = sound.RATE // 2
        assert np.abs(samples[:start]).max() == 0, "it begins before its beat"
        assert np.abs(samples[start : start + sound.RATE // 20]).max() > 1e-3, "it does not begin on its beat"
        sounding = samples[start : start + sound.RATE]
        written, *beside = (_energy(sounding, pitch + step, harmonics=8) for step in (0, -1, 1))
        assert written > 50 * max(beside)


@needs_sound
@pytest.mark.parametrize("bpm", [60.0, 97.0, 174.0])
def test_beats_far_into_a_piece_fall_on_the_tempo(bpm):
    beat = 48
    note = composers.Note(beat, 1.0, 69, 120, 0)
    score = composers.Score(bpm, (beat + 2) * 60 / bpm, (PROGRAMS["marimba"],), (note,))
    first = np.flatnonzero(np.abs(sound.played(score)).max(axis=1) > 1e-4)[0] / sound.RATE
    assert first == pytest.approx(beat * 60 / bpm, abs=0.01)


def test_peaks_are_tamed_and_the_loudness_is_kept():
    rng = np.random.default_rng(0)
    samples = 0.01 * rng.normal(size=(4 * sound.RATE, 2))
    samples[:: sound.RATE // 3] = 1.0  # clicks 40 dB above the rest
    levelled = sound._levelled(samples)
    assert np.abs(levelled).max() < 10 ** (-1 / 20)
    assert loudness(levelled) == pytest.approx(sound.LOUDNESS, abs=0.1)


@needs_sound
def test_a_note_ends_on_its_beat():
    note = composers.Note(0.0, 2.0, 69, 100, 0)
    samples = sound.played(composers.Score(120.0, 2.0, (PROGRAMS["organ"],), (note,))).mean(axis=1)
    assert (samples[: sound.RATE] ** 2).mean() > 100 * (samples[-sound.RATE // 2 :] ** 2).mean()


@needs_sound
def test_each_chord_of_a_chorale_sounds_more_at_its_pitches_than_a_semitone_beside():
    plan = _plan(seconds=16.0, bpm=60.0, instruments=("vibraphone", "marimba"))
    score = composers.chorale(plan, np.random.default_rng(0))
    samples = sound.played(score).mean(axis=1)
    starts = sorted({note.start for note in score.notes if note.part == 1})
    assert len(starts) == 7
    for start in starts:
        upper = [note.pitch for note in score.notes if note.start == start and note.part != 2]
        chord = [note.pitch for note in score.notes if note.start == start]
        overtones = {pitch + step for pitch in chord for step in (0, 12, 19, 24, 28, 31, 34, 36)}
        sounding = samples[int(start * sound.RATE) : int((start + 1.2) * sound.RATE)]
        for pitch in upper:
            beside = {pitch - 1, pitch + 1} - overtones
            assert all(_energy(sounding, pitch) > 5 * _energy(sounding, other) for other in beside)


@needs_sound
def test_the_systems_that_come_along_make_battles_whose_sides_are_alike():
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    systems = read_registry(EXAMPLE).systems
    assert {name: system.modality for name, system in systems.items()} == {
        "plain": "text",
        "brief": "text",
        "chorale": "audio",
        "groove": "audio",
    }
    with ThreadPoolExecutor(2) as pool:
        request = Request("calm evening", "audio", duration=4)
        (a, about_a), (b, about_b) = asyncio.run(
            both(systems["chorale"], systems["groove"], request, calls=Calls(), pool=pool)
        )
    assert len(a.data) == len(b.data)
    assert a.data != b.data
    assert about_a.seconds == about_b.seconds == 4.0
    assert loudness(readable(a, "audio")) == pytest.approx(loudness(readable(b, "audio")), abs=0.5)


@needs_sound
def test_a_system_behind_http_takes_part_through_the_registry(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "penchant.apps.arena.music", "--system", "groove", "--port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            entries = {
                "chorale": {"kind": "python", "modality": "audio", "path": "penchant.apps.arena.music:chorale"},
                "groove": {"kind": "http", "modality": "audio", "url": f"{url}/generate", "health": f"{url}/health"},
            }
            (tmp_path / "music.yaml").write_text(yaml.safe_dump({"systems": entries}))
            system = read_registry(tmp_path / "music.yaml").systems["groove"]
            for _ in range(300):
                if system.healthy() or server.poll() is not None:
                    break
                time.sleep(0.1)
            assert system.healthy()
            request = Request("techno at 128 bpm", "audio", duration=2.5, seed=11)
            assert system.generate(request) == music.groove(request)
            with pytest.raises(GenerationError, match="status 422"):
                system.generate(Request("a song", "audio", instrumental=False))
        finally:
            server.terminate()


def test_the_server_passes_on_why_a_request_cannot_be_answered():
    fastapi = pytest.importorskip("fastapi.testclient")
    from penchant.apps.arena.music.__main__ import application

    client = fastapi.TestClient(application(music.groove))
    reply = client.post("/generate", json={"prompt": "x", "modality": "audio", "duration": 900})
    assert reply.status_code == 422
    assert "between 1 and 300 seconds" in reply.json()["detail"]
    assert client.post("/generate", json={"prompt": "x", "lyrics": "la"}).status_code == 422


def test_a_system_that_is_not_there_is_not_healthy():
    entry = Entry("http", "audio", url="http://127.0.0.1:9/generate", health="http://127.0.0.1:9/health")

    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    assert not Http(entry, transport=httpx.MockTransport(refuse)).healthy()
