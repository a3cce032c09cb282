"""One read-only view of a folder, a zip, a tar or a lone file: names and bytes, nothing extracted.

Archives are hostile until shown otherwise: a member that would leave the archive's folder condemns the whole
archive, links and special files are passed over, and no member larger than a limit is unpacked.
"""

from data_prep.archives.base import MAX_MEMBER_BYTES, Tree, lacking, where, without_ending
from data_prep.archives.folder import FolderTree
from data_prep.archives.opening import MountedTree, open_tree
from data_prep.archives.single import FileTree

__all__ = [
    "MAX_MEMBER_BYTES",
    "FileTree",
    "FolderTree",
    "MountedTree",
    "Tree",
    "lacking",
    "open_tree",
    "where",
    "without_ending",
]
