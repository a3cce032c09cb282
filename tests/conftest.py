"""What all tests rest on."""

import signal

# What a shell starts in the background ignores Ctrl-C, and so do all that it starts: the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
