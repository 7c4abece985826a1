r"""Grading of mathematics answers: rule-based extraction and exact match, as the paper says.

What counts as the answer is its last \boxed{...} or the last line that begins with "Answer" (DAPO's
prompt asks for it), whichever is later; without either, what "the answer is" in prose, or a text of
a single line as it stands. A box that is not closed is no answer. Answer and gold are brought into
one notation and taken apart (lists, tuples, intervals, matrices, equations, units), and numbers
compared as exact fractions here; only formulas are left to math-verify's LaTeX parser
(math-verify 0.9.0, latex2sympy2_extended 1.11.0).

That parser, sympy and whatever a model wrote for them run in a process of their own (sandbox.py),
which has a memory limit and is ended and replaced at the time limit: math-verify's own limit is a
SIGALRM, which works in the main thread only. No text is evaluated there either.

Decisions that graders differ in:

- Exact: 0.33 is not 1/3, 1.414 not sqrt(2). `a \approx b` states a.
- A comma-separated list or a set has no order; tuples, intervals, vectors and matrices have one,
  and their brackets count: neither 1,2 nor [1,2] nor \{1,2\} is (1,2).
- 52_8 equals neither 52 nor 42: the base asked for is part of the answer.
- Units, money and what was counted may be left out, but not exchanged (5 cm is not 5 m, 5 cents
  not $5). A word that says how much is no unit: 5 million is 5000000, 3 halves are 3/2, and 7 minus
  two is not 7. One letter without \text is a variable: 3m is not 3. 15% equals 15 and 0.15.
- 30 degrees equal 30 as well as pi/6.
- 1,234 and 1 234 are one number, unless an answer of as many parts separates them by ", ".
- x = 5 equals 5, but not y = 5; an equation equals its multiples. What states the value of names or
  given things states a value (m + n = 5, AB/CD = 5, f(3) = 5); x + 2 = 5 is to be solved and does
  not state 5. 2 + 3 = 5 does: both sides are 5.
- A ratio equals its multiples, but 2:30 may be a time of day and is no 1:15.
- Where the gold is a letter from A to J, the letter counts, whatever stands beside it: (B) 12 cm.
- What is said around an answer never makes it wrong ("113, because ..."); a condition is no such
  remark ("113, if n is even").
- Roots are the real ones: the cube root of -8 is -2, and formulas in variables are compared where
  both are real.
- Words are no numbers: seven is not 7.
"""

from companion.tasks.grading.extraction import extract
from companion.tasks.grading.grades import Grade, grade, grade_all
from companion.tasks.grading.parity import disagreements, verdicts, verl_grade

__all__ = ["Grade", "disagreements", "extract", "grade", "grade_all", "verdicts", "verl_grade"]
