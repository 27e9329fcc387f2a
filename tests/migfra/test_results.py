"""Results of a member: what a hypervisor's method may return, and what the result then has."""

import pytest

from fastlib import Migrate, MigrateParameter, MigrationResult, TimeMeasurement
from fastlib.migfra.tasks.results import results_of


def result_of(outcome, counter=None, retries=2):
    task = Migrate(
        vm_name="vm1", destination="node02", parameter=MigrateParameter(retry_counter=counter)
    )
    (result,) = results_of(outcome, task, retries, TimeMeasurement())
    return result


@pytest.mark.parametrize("outcome", [None, MigrationResult(vm_name="vm1", status="success")])
@pytest.mark.parametrize(("counter", "details"), [(None, None), (3, "2")])
def test_success_without_details_gets_the_number_of_retries(outcome, counter, details):
    assert result_of(outcome, counter).details == details


def test_details_of_a_result_are_kept():
    success = MigrationResult(vm_name="vm1", status="success", details="so", encrypted=True)
    assert result_of(success, 3) == success
    failure = MigrationResult(vm_name="vm1", status="error")
    assert result_of(failure, 3) == failure
