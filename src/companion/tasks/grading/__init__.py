r"""Grading of mathematics answers: rule-based extraction and exact match, as the paper says.

What counts as the answer is its last \boxed{...}; without one, what follows the last "Answer:" or
"answer is" (DAPO's prompt asks for it); without that, a text of a single line as it stands. A box
that is not closed is no answer. Answer and gold are taken apart (lists, tuples, intervals,
matrices, equations, units) and numbers compared as exact fractions here; only formulas are left
to math-verify's LaTeX parser (math-verify 0.9.0, latex2sympy2_extended 1.11.0).

That parser, sympy and whatever a model wrote for them run in a process of their own (sandbox.py),
which has a memory limit and is ended and replaced at the time limit: math-verify's own limit is a
SIGALRM, which works in the main thread only. No text is evaluated there either.

Decisions that graders differ in:

- Exact: 0.33 is not 1/3, 1.414 not sqrt(2). `a \approx b` states a.
- A comma-separated list or a set has no order; tuples, intervals, vectors and matrices have one,
  and their brackets count: neither 1,2 nor [1,2] nor \{1,2\} is (1,2).
- 52_8 equals neither 52 nor 42: the base asked for is part of the answer.
- Units may be left out, but not exchanged (5 cm is not 5 m). 15% equals 15 and 0.15.
- 1,234 and 1 234 are one number, unless an answer of as many parts separates them by ", ".
- x = 5 equals 5, but not y = 5; an equation equals its multiples.
"""

from companion.tasks.grading.extraction import extract
from companion.tasks.grading.grades import Grade, grade, grade_all
from companion.tasks.grading.parity import disagreements, verdicts, verl_grade

__all__ = ["Grade", "disagreements", "extract", "grade", "grade_all", "verdicts", "verl_grade"]
