"""Whether what can be asked is what happened: the log is checked and folded anew, and all read models are compared."""

from __future__ import annotations

from l02.verify.difference import Difference, Report
from l02.verify.run import Summary, verify

__all__ = ["Difference", "Report", "Summary", "verify"]
