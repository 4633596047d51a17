"""The model card of a version, and what moves its predictions, in MLflow and as a command gives them."""
import json
import pytest
from harness.commands import said
from pipeline.context import Context
from pipeline.registry import card_records

pytestmark = pytest.mark.usefixtures("trained_before")

def test_try(project, version_one):
    r = card_records.read(Context.here().registry, "churn", "1")
    print(r.files.keys())
    c = Context.here().registry.client(); 
    run = r.mlflow_run
    print([i.path for i in c.list_artifacts(run)], [i.path for i in c.list_artifacts(run,"explanation")])
    print(said("card", "churn", "1", "--html", "/tmp/card.html"))
