"""What an exported model was made for: reference statistics of its training, and a verdict on each image."""

from cxr.models.scope.reference import Scope, ScopeReference, read_scope, write_scope
from cxr.models.scope.verdicts import Judgement

__all__ = ["Judgement", "Scope", "ScopeReference", "read_scope", "write_scope"]
