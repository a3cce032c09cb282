"""One read-only view of a folder, a zip or a tar: names and bytes, nothing extracted.

Archives are hostile until shown otherwise: a member that would leave the archive's folder condemns the whole
archive, links and special files are passed over, and no member larger than a limit is unpacked.
"""

from data_prep.archives.base import MAX_MEMBER_BYTES, Tree
from data_prep.archives.folder import FolderTree
from data_prep.archives.opening import MountedTree, open_tree

__all__ = ["MAX_MEMBER_BYTES", "FolderTree", "MountedTree", "Tree", "open_tree"]
