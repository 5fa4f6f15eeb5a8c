"""The rows of results files: what one kernel did on one case in one pass, and the text that a row is kept as.

- `row`: the `Record`, which refuses a time without a proof, its columns in order, and how one is written;
- `blocks`: which rows are the same measurement, which were timed in turns, which tell the time of a race's winner;
- `reading`: text back into records. What breaks the rules of a row is refused, named by file, line and column: a cell
  that is no number, times that contradict each other, a measurement that is there twice, columns of a newer schema.

`read` needs nothing but the standard library and holds every record in memory, as the choice of a kernel does for one
file of results.

`gradkernels.bench.results` reads files of any size by columns, and by the same rules: what it cannot
take as it stands it has read line by line here.
"""

from gradkernels.record.blocks import MEASURED_AGAIN as MEASURED_AGAIN
from gradkernels.record.blocks import in_turns as in_turns
from gradkernels.record.blocks import unbiased as unbiased
from gradkernels.record.reading import Malformed as Malformed
from gradkernels.record.reading import read as read
from gradkernels.record.row import ADDED as ADDED
from gradkernels.record.row import CASE as CASE
from gradkernels.record.row import COLUMNS as COLUMNS
from gradkernels.record.row import DERIVED as DERIVED
from gradkernels.record.row import HEADER as HEADER
from gradkernels.record.row import KINDS as KINDS
from gradkernels.record.row import MEASURED as MEASURED
from gradkernels.record.row import OLD_HEADERS as OLD_HEADERS
from gradkernels.record.row import SCHEMA as SCHEMA
from gradkernels.record.row import TIMES as TIMES
from gradkernels.record.row import Measurement as Measurement
from gradkernels.record.row import Record as Record
from gradkernels.record.row import Status as Status
from gradkernels.record.row import append as append
from gradkernels.record.row import derived as derived
from gradkernels.record.row import has_current_columns as has_current_columns
from gradkernels.record.row import line as line
