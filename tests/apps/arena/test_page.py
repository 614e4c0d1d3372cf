"""The page in a real browser, from the terms to the names, by mouse and by keyboard."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from arena_server import running

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'penchant[test]'")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (_BROWSER and _DRIVER), reason="no chromium with its driver: apt-get install chromium chromium-driver"
)
DESKTOP, PHONE = (1280, 900), (390, 844)


class Visit:
    """A browser on the page of an arena."""

    def __init__(self, url: str, size: tuple[int, int]):
        options = webdriver.ChromeOptions()
        options.binary_location = _BROWSER
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        options.add_argument("--autoplay-policy=no-user-gesture-required")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(url)

    def until(self, condition, seconds: float = 20):
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

    def shown(self, name: str):
        element = self.driver.find_element(By.ID, name)
        self.until(element.is_displayed)
        return element

    def can_vote(self) -> bool:
        return self.driver.find_element(By.CSS_SELECTOR, "[data-vote=A]").is_enabled()

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def asks(self, prompt: str, kind: str = "") -> None:
        if kind:
            self.driver.execute_script(f"document.querySelector('[name=modality][value={kind}]').click()")
        self.shown("prompt").send_keys(prompt, Keys.CONTROL, Keys.ENTER)

    def picture(self, name: str) -> None:
        self.driver.save_screenshot(name)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def fits(self) -> bool:
        """Nothing is wider than the window."""
        return self.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    with running(tmp_path_factory.mktemp("arena"), gate=1.0) as server:
        yield server


@pytest.fixture
def visit(arena, request):
    visit = Visit(arena.url, getattr(request, "param", DESKTOP))
    yield visit
    visit.driver.quit()


def outcomes(arena) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(arena.store)) as connection:
        return connection.execute("SELECT preference, reasons FROM arena_battles ORDER BY created").fetchall()


@pytest.mark.parametrize("visit", [DESKTOP, PHONE], indirect=True)
def test_music_is_heard_on_both_sides_before_a_vote_and_names_come_after_it(visit, arena):
    visit.shown("accept").click()
    visit.asks("a slow waltz", "audio")
    visit.shown("battle")
    assert not visit.can_vote()
    page = visit.driver.find_element(By.ID, "battle").text
    assert "low" not in page.split()
    assert "high" not in page.split()
    visit.press("a")
    visit.until(lambda: "✓" in visit.driver.find_element(By.ID, "gate-text-a").text)
    assert not visit.can_vote()
    visit.press("b")
    visit.until(visit.can_vote)
    assert visit.fits()
    visit.press("2")
    visit.shown("why").find_element(By.NAME, "a").send_keys("too <b>flat</b>")
    visit.driver.find_element(By.CSS_SELECTOR, "#why [type=submit]").click()
    visit.shown("again")
    names = {visit.driver.find_element(By.ID, f"name-{side}").text for side in "ab"}
    assert names == {"low", "high"}
    [preference, reasons] = outcomes(arena)[-1]
    assert preference == "B"
    assert "too <b>flat</b>" in reasons
    assert visit.fits()
    assert visit.complaints() == []


def test_text_of_systems_is_shown_as_text_and_reading_opens_the_gate_by_itself(visit):
    visit.shown("accept").click()
    visit.asks("<img src=x onerror=alert(1)><h1>big</h1>", "text")
    visit.shown("battle")
    shown = visit.driver.find_element(By.ID, "shown-a")
    assert "<IMG SRC=X" in shown.text.upper()
    assert visit.driver.find_elements(By.CSS_SELECTOR, "#battle img, #battle .shown h1") == []
    visit.until(visit.can_vote)
    visit.press("3")
    visit.shown("why")
    assert visit.complaints() == []


def test_pictures_are_shown_and_another_battle_starts_with_a_key(visit):
    visit.shown("accept").click()
    visit.asks("red", "image")
    visit.shown("battle")
    visit.until(visit.can_vote)
    widths = [visit.driver.find_element(By.CSS_SELECTOR, f"#shown-{side} img").size for side in "ab"]
    assert widths[0] == widths[1]
    visit.press("4")
    visit.shown("why")
    visit.driver.find_element(By.CSS_SELECTOR, "#why [type=submit]").click()
    visit.shown("again")
    visit.press("n")
    visit.shown("ask")
    assert visit.complaints() == []


def test_a_refused_prompt_is_said_where_a_screen_reader_hears_it(visit):
    visit.shown("accept").click()
    visit.asks("write to ann@example.org")
    assert "e-mail" in visit.shown("error").text
    assert visit.driver.find_element(By.ID, "error").get_attribute("role") == "alert"


def test_every_control_has_a_name_and_every_page_one_heading(visit, arena):
    for path in ("", "leaderboard", "privacy"):
        visit.driver.get(f"{arena.url}/{path}")
        nameless = visit.driver.execute_script(
            "return [...document.querySelectorAll('button, input, select, textarea')].filter(e => !(e.ariaLabel || "
            "e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert nameless == []
        headings = [h for h in visit.driver.find_elements(By.TAG_NAME, "h1") if path or h.is_displayed()]
        assert len(headings) == 1 or not path
    assert Path(arena.store).exists()


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_a_visitor_who_asks_twice_to_be_forgotten_is_and_the_page_says_what_is_gone(visit, arena):
    visit.shown("accept").click()
    visit.asks("a haiku of mine alone", "text")
    visit.shown("battle")
    visit.until(visit.can_vote)
    visit.press("1")
    visit.shown("why")
    visit.driver.get(f"{arena.url}/privacy")
    button = visit.shown("forget")
    button.click()
    assert button.text == "Yes, delete my votes and prompts"

    def kept():
        with closing(sqlite3.connect(arena.store)) as connection:
            query = "SELECT count(*) FROM arena_battles WHERE prompt = 'a haiku of mine alone'"
            return connection.execute(query).fetchone()[0]

    assert kept() == 1  # not yet
    button.click()
    visit.until(lambda: visit.driver.find_element(By.ID, "said").text == "Deleted: 1 battles, 1 votes.")
    assert kept() == 0
    assert visit.fits()
    visit.driver.refresh()
    assert not visit.driver.find_elements(By.ID, "forget")
    assert visit.complaints() == []
