"""A rollout that goes on is called back by the button of its page, in a real browser and a real Airflow."""

from __future__ import annotations

import threading

import httpx
import pytest

from pipeline.deployer import traffic
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import AbortAsked
from pipeline.services.environment import USER, machine_secrets
from tests.support import browser
from tests.support.flights_story import OPERATE
from tests.support.required import skip_or_fail
from tests.support.stack import FLIGHTS

pytestmark = pytest.mark.timeout(2700)


def test_a_rollout_is_called_back_by_the_button_and_a_viewer_has_none(stack, second_version):
    """In Airflow's own frame a click with a reason gives the champion all traffic again, under the user's name; a viewer cannot act."""
    if gone := browser.missing():
        skip_or_fail("browser", gone)
    page, secrets = f"{stack.at.airflow}/perennial/rollout/{FLIGHTS}", machine_secrets(stack.home)
    token = browser.token_of(stack.at.airflow, USER, secrets["password"])
    viewer, errors, ended = browser.token_of_a_viewer(token, secrets["jwt"]), [], threading.Event()
    live = stack.live(FLIGHTS)
    other = "1" if live == "2" else "2"

    def roll_out():
        try:
            # Without requests it holds.
            traffic(stack.context).deploy("", FLIGHTS, other, "a drill", "canary", 0)
        except RolloutError as error:
            errors.append(str(error))
        ended.set()

    with browser.browser() as driver:
        browser.keep_session(driver, stack.at.airflow, viewer)
        driver.get(page)
        threading.Thread(target=roll_out, daemon=True).start()
        xpath = f"//*[@id='traffic'][contains(., 'version {other}')]"
        lanes = browser.wait_for(driver, "xpath", xpath, 120)
        assert [lane.get_attribute("class") for lane in lanes.find_elements("xpath", "./div")] == [
            "lane live",
            "lane candidate",
        ]
        browser.wait_for(driver, "xpath", "//*[@id='figures'][not(@hidden)]//td[.='error_rate']", 60)
        assert driver.find_elements("id", "call-back") == []
        asked, cookie = {"version": other, "reason": "a viewer"}, {"authorization": f"Bearer {viewer}"}
        assert httpx.post(f"{page}/call-back", json=asked, headers=cookie).status_code == 403
        assert httpx.post(f"{page}/call-back", json=asked, cookies={"_token": token}).status_code == 403
        assert httpx.post(f"{page}/call-back", json=asked).status_code == 401
        browser.keep_session(driver, stack.at.airflow, token)
        driver.get(f"{stack.at.airflow}/plugin/perennial")
        driver.switch_to.frame(browser.wait_for(driver, "tag name", "iframe", 120))
        link = f"//*[@id='model-{FLIGHTS}']//a[.='rollout']"
        browser.wait_for(driver, "xpath", link, 120)
        browser.press(driver, link)
        browser.wait_for(driver, "xpath", "//form[@id='call-back'][not(@hidden)]", 120)
        driver.find_element("name", "reason").send_keys("answers look odd")
        browser.press(driver, "//button[.='Call it back']")
        said = f"//*[@id='called'][contains(., 'Version {live} has all traffic again')]"
        assert f"Called back by {USER}" in browser.wait_for(driver, "xpath", said, 120).text
        driver.get(f"{stack.at.airflow}/perennial/portfolio")
        assert shown(driver) == sorted(shown(driver)) != []
        for _ in range(2):
            browser.press(driver, "//*[@id='portfolio']//th//button[.='model']")
        assert shown(driver) == sorted(shown(driver), reverse=True)
        browser.wait_for(driver, "id", "portfolio-filter").send_keys("delay live")
        assert shown(driver) == [FLIGHTS]
        assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
    assert ended.wait(60)
    assert errors == [f"model {FLIGHTS}: was called back by hand; look at its timeline"]
    (noted,) = stack.context.ledger.events(AbortAsked, model=FLIGHTS)
    assert noted.event == AbortAsked(reason="answers look odd", asked_by=USER, version=other)
    run = max(stack.airflow.runs(OPERATE), key=lambda run: run["run_after"])
    assert (run["triggering_user_name"], stack.finish(OPERATE, run["dag_run_id"])[""]) == (USER, "success")
    assert stack.live(FLIGHTS) == stack.context.registry.champion(FLIGHTS) == live


def shown(driver):
    """The models of the portfolio, in the order of its rows."""
    return [
        cell.text.split()[0]
        for cell in driver.find_elements("css selector", "#portfolio tbody tr:not([hidden]) td:first-child")
    ]
