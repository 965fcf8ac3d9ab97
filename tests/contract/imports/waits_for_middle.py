from tests.contract.imports import wait_for

wait_for("middle")
