"""The schema of a model: its columns, and the only code that turns a cell into what a model takes.

A cell comes from DuckDB, Arrow, a CSV's text, JSON or a binary tensor. Whatever wrote it, one value is one value. Kind by kind:

missing   In every kind: NULL, None, NaN, NaT, an empty text. In the text cells of a number, a boolean or a datetime also the
          spellings that pandas writes and reads (`spelling.MISSING`). In a category or a text "NA" is a country, "nan" a text.
number    Integers, floats and decimals, no booleans; a text of ASCII digits with a sign, a decimal point and an
          exponent, with spaces around it. 5, 5.0, "+5", " 5 ", "5e0" and "005" are one value, -0.0 is 0. "1,000", "1_0", "0x1"
          and an infinite number are none.
          A model gets it as float32, or as it is where the column's `precision` is float64 (`drawn_precision` in pipeline.data).
          Such a column takes no float32 of 2^24 or more: digits were lost before anybody read it.
integer   A number without a fraction, judged before it is rounded to the model's precision.
boolean   true and false, t and f, yes and no, y and n in upper or lower case, 1 and 0, "1.0" and "0.0". The model gets 1 and 0.
datetime  The times of `times.instant`: a text, or a time or a date as Arrow, numpy and Python have them; without a zone it is one of
          the schema's, and a number is none. The model gets days since 2000-01-01 UTC, with a fraction, and where the column says so parts of its
          calendar in the schema's zone, and its age: the days from it to the row's event time (see `ages`).
text      A text as it is, no other cell. The model gets two numbers, its characters and its words (see `texts`).
category  The column's spelling says what is one value. The training window decides it (`drawn` in pipeline.data), and
          `gates.contract.columns.NAME.type` pins it.
          number  All values are numbers. 2, 2.0, "2", "2.0" and "+2" are "2"; 2.5 and "2.50" are "2.5"; "1e-05" is "0.00001". "007" is
                  "7": a column with leading zeros is no such column.
          truth   All values are booleans: each spelling of a boolean is "true" or "false".
          text    A text as it is: spaces, case and leading zeros count. A number 2 or 2.0 is "2", true is "true".
          A text that is no value of the spelling stays a category of its own, which no model has learnt.
key       A text as it is, but for whole numbers: 7920, 7920.0, "7920" and "7920.0" are "7920"; "007" and "12e5" stay.

A DOUBLE of 2^53 or more is no category and no key: its last digits were lost before anybody read it.
"""

from pipeline.serving.schema.blocks import RowRefused
from pipeline.serving.schema.columns import Column, Schema
from pipeline.serving.schema.reader import Reader, Rows
from pipeline.serving.schema.spelling import Unreadable

__all__ = ["Column", "Reader", "RowRefused", "Rows", "Schema", "Unreadable"]
