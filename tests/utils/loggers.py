"""Logging as it was before a test."""

import contextlib
import logging
from collections.abc import Iterator

from detectron2.utils import logger as detectron2_logger


@contextlib.contextmanager
def loggers_as_before() -> Iterator[None]:
    """Restore the handlers of the loggers, because every set-up adds some."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "metaprompt_d2")]
    before = [list(logger.handlers) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
        detectron2_logger.setup_logger.cache_clear()
        detectron2_logger._cached_log_stream.cache_clear()
