"""How good the answers are: lines and explanations in held-out files of whole repositories, through the protocol.

repository   a package on disk, less its held-out files
reading      names, comments and imports of a source text
cases        cursors with what stood there, drawn by hash
serving      a server process that is started again when it dies
asking       a case in, an answer out
floors       what copying alone would answer
scores       an answer against what stood there, and the intervals of means
results      all answers to all cases, and their figures
explaining   sentences on functions against their docstrings
comparison   this run against another, case by case
report       the tables and plots; comparison_report those of the comparison, shown figures as text
part         all of it in order
"""

from tests.bench.quality.part import run

__all__ = ["run"]
