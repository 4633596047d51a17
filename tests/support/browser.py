"""Headless Chromium, logged in to Airflow."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import jwt
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--window-size=1280,1400",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing() -> str:
    """What is not installed here, or ''."""
    gone = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(gone)} not installed" if gone else ""


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def log_in(driver: webdriver.Chrome, airflow: str, user: str, password: str) -> None:
    """Gives the browser the session that the login form would."""
    keep_session(driver, airflow, token_of(airflow, user, password))


def token_of(airflow: str, user: str, password: str) -> str:
    """What Airflow gives for a login."""
    return httpx.post(f"{airflow}/auth/token", json={"username": user, "password": password}).json()["access_token"]


def keep_session(driver: webdriver.Chrome, airflow: str, token: str) -> None:
    driver.get(f"{airflow}/auth/login")
    driver.add_cookie({"name": "_token", "value": token, "path": "/"})


def token_of_a_viewer(token: str, key: str) -> str:
    """The token as Airflow would give it to a user of the role viewer, signed with its `key`: one machine has the user admin alone."""
    claims = jwt.decode(token, options={"verify_signature": False})
    algorithm = jwt.get_unverified_header(token)["alg"]
    return jwt.encode(claims | {"sub": "vera", "role": "viewer", "jti": uuid.uuid4().hex}, key, algorithm=algorithm)


def wait_for(driver: webdriver.Chrome, by: str, value: str, limit_s: float = 30) -> WebElement:
    """The element, once a page that builds itself has it."""
    return WebDriverWait(driver, limit_s).until(lambda d: d.find_element(by, value))


def press(driver: webdriver.Chrome, xpath: str) -> None:
    """Clicks what is there once the page has it and lets it be clicked."""
    WebDriverWait(driver, 30).until(expected_conditions.element_to_be_clickable((By.XPATH, xpath))).click()


def leave(driver: webdriver.Chrome) -> None:
    """Closes the page. Airflow's own draws what is going on sixty times a second, without a graphics card, and asks again and again."""
    driver.get("about:blank")


def faults(driver: webdriver.Chrome, width: int) -> list[str]:
    """What is wrong with the page that is open when its window is `width` pixels wide: errors, what sticks out, what came from elsewhere."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    found = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    # A phone's window grows with a page that is too wide for it: what counts is the width that was asked for.
    with suppress(TimeoutException):
        # A chart is drawn anew for another width.
        WebDriverWait(driver, 10).until(lambda driver: _sticks_out(driver, width) <= 0)
    wide = _sticks_out(driver, width)
    found += [f"{wide} pixels wider than its window of {width}"] if wide > 0 else []
    fetched = driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    here = driver.current_url.partition("/perennial/")[0]
    return found + [f"fetched from elsewhere: {url}" for url in fetched if not url.startswith(here)]


def _sticks_out(driver: webdriver.Chrome, width: int) -> int:
    return driver.execute_script("return document.documentElement.scrollWidth - arguments[0]", width)


def filtered(driver: webdriver.Chrome, table: str, words: str) -> list[str]:
    """The first cells of the rows of `table` that are seen once `words` stand in its filter, which is emptied again."""
    box = driver.find_element(By.ID, f"{table}-filter")
    box.send_keys(words)
    cells = driver.find_elements(By.CSS_SELECTOR, f"#{table} > tbody > tr > td:first-child")
    seen = [cell.text for cell in cells if cell.is_displayed()]
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    return seen


def start_backfill(driver: webdriver.Chrome, airflow: str, dag: str, first: str, last: str) -> None:
    """Fills in Airflow's own form for the days from `first` to `last` (YYYY/MM/DD) and sends it."""
    driver.get(f"{airflow}/dags/{dag}")
    press(driver, "//button[contains(., 'Trigger')]")
    press(driver, "//*[@role='dialog']//*[text()='Backfill']")
    for i, day in enumerate((first, last), start=1):
        press(driver, f"(//*[@data-testid='datetime-input'])[{i}]")
        box = WebDriverWait(driver, 30).until(
            expected_conditions.visibility_of_element_located((By.CSS_SELECTOR, "input[placeholder='YYYY/MM/DD']"))
        )
        box.send_keys(day, Keys.TAB)
        press(driver, "//*[text()='Date Range']")
        WebDriverWait(driver, 30).until(expected_conditions.invisibility_of_element(box))
    press(driver, "//button[contains(., 'Run Backfill')]")
