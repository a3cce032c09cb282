"""One read-only view of a folder, a zip, a tar or a single file: names and bytes, nothing extracted.

Archives are assumed hostile: a member that would leave the archive's folder makes the whole archive refused,
links and special files are skipped, and no member larger than a limit is unpacked.
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
