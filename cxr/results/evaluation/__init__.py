"""The selected model on the test set: as it is, in the stress worlds, and with parts hidden."""

from cxr.results.evaluation.job import EvaluationJob, images_to_score, is_complete
from cxr.results.evaluation.robustness import StressTest, read_stress_test, stress_metrics
from cxr.results.evaluation.scores import Evaluation, is_evaluated, test_metrics

__all__ = [
    "Evaluation",
    "EvaluationJob",
    "StressTest",
    "images_to_score",
    "is_complete",
    "is_evaluated",
    "read_stress_test",
    "stress_metrics",
    "test_metrics",
]
