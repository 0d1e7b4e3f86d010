"""Many machines through Ray: files, predictions, cells of studies, trials of a search, and one run on several workers.

Nothing else of affectus imports Ray. What runs on a cluster is what runs without one: a
:class:`affectus.parallel.Work` done by another :class:`affectus.parallel.Executor`, or the same search with another
hand that trains its trials. The machines share a file system; results are renamed into place there, so that the driver,
whenever it starts, sees what is done.
"""

from affectus.cluster.session import Cluster, parse_address

__all__ = ["Cluster", "parse_address"]
