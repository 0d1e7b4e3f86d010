/* All steps of a recurrence in one call, and what surrounds its products in one pass over the rows.

   PyTorch takes an operator, a call and a pass through memory for each operation of each step. All arrays are of single
   precision and contiguous; a row is a sample at a step, and the rows of a step stand one after the other, as
   affectus.nn.packing has them. Nothing is checked here: affectus.nn.kernels is what calls it.

   The loops are plain, for the compiler to turn into vector instructions. Of one processor are the mode of its arithmetic
   (base.h), and what asks for weights ahead and writes past the cache (fusion.h). */

#include "fusion.h"
#include "matmul.h"
#include "recurrences.h"
#include "rows.h"

/* Of which source a library was made, for who loads it. */
__attribute__((visibility("default"))) const char source[] = STAMP;
