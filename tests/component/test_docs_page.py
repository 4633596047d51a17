"""A slot's /docs in a browser: it comes whole without any other server, and its request runs as it stands."""

from selenium.webdriver.common.by import By

from harness.slot_server import server
from tests.support import browser
from tests.support.required import skip_or_fail


def test_the_page_sends_the_request_that_it_shows(churn_package, tmp_path):
    """A slot's /docs page loads without another server, and its example request gets a prediction."""
    if gone := browser.missing():
        skip_or_fail("browser", gone)
    with server(churn_package, tmp_path) as started, browser.browser() as driver:
        driver.get(f"{started.url}/docs")
        browser.wait_for(
            driver, By.CSS_SELECTOR, "#operations-default-post_invocations .opblock-summary-control"
        ).click()
        browser.wait_for(driver, By.CSS_SELECTOR, "#operations-default-post_invocations button.execute").click()
        answer = browser.wait_for(driver, By.CSS_SELECTOR, "#operations-default-post_invocations .live-responses-table")
        assert "200" in answer.text
        assert '"predictions"' in answer.text
        driver.save_screenshot(str(tmp_path / "docs.png"))
        assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
