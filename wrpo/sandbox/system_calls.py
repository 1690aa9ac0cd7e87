"""The system calls that stay closed, by machine.

Three reasons close a call: it opens a way out of the sandbox; it reaches code of the kernel that
programs have no need of; or it makes the kernel keep memory that no limit counts, such as extended
attributes, policies of shared memory, rules of Landlock, or pages left in a pipe.
"""

from __future__ import annotations

LAST = 462
"""The newest call known here (mseal): later ones have the same number everywhere, and no reader."""

# Numbers that all machines share, since the tables were split no more.
_SHARED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
    "memfd_secret": 447,
}  # fmt: skip
DENIED = {
    "x86_64": _SHARED | {
        "shmget": 29, "socket": 41, "sendmsg": 46, "setsockopt": 54, "fork": 57, "vfork": 58,
        "semget": 64, "msgget": 68, "ptrace": 101, "syslog": 103, "pivot_root": 155, "chroot": 161,
        "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "io_setup": 206, "mbind": 237, "mq_open": 240, "add_key": 248, "request_key": 249,
        "keyctl": 250, "inotify_init": 253, "unshare": 272, "vmsplice": 278,
        "inotify_init1": 294, "perf_event_open": 298, "fanotify_init": 300,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "sendmmsg": 307, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "seccomp": 317,
        "memfd_create": 319, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": _SHARED | {
        "io_setup": 0, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "inotify_init1": 26,
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "vmsplice": 75,
        "unshare": 97, "syslog": 116, "ptrace": 117, "mq_open": 180, "msgget": 186,
        "semget": 190, "shmget": 194, "socket": 198, "setsockopt": 208, "sendmsg": 211,
        "add_key": 217, "request_key": 218, "keyctl": 219, "mbind": 235, "perf_event_open": 241,
        "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
        "sendmmsg": 269, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "seccomp": 277, "memfd_create": 279, "bpf": 280, "userfaultfd": 282,
    },
}  # fmt: skip
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
MMAP = {"x86_64": 9, "aarch64": 222}
MADVISE = {"x86_64": 28, "aarch64": 233}
FCNTL = {"x86_64": 72, "aarch64": 25}
PRCTL = {"x86_64": 157, "aarch64": 167}
CLOSE_RANGE = 436
