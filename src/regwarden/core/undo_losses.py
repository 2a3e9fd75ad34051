"""What does a person read about something that an undo does not bring back?"""

from __future__ import annotations

from regwarden.core.undo import Loss, LossCode


def explain_loss(loss: Loss) -> str:
    """One sentence: what stays away, and exactly what is missing for it."""
    name = f"{loss.repository}@{loss.digest}"
    match loss.code:
        case LossCode.TAG_MOVED:
            now = f"points to {loss.now}" if loss.now else "exists, and nobody knows where it points"
            return f"{loss.repository}:{loss.tag} is left alone: it meanwhile {now}; it pointed to {loss.digest}"
        case LossCode.NOT_WRITABLE:
            return f"{name} cannot be put back: {loss.now}"
        case LossCode.BLOB_GONE:
            of = "" if loss.needed_by == loss.digest else f" of its manifest {loss.needed_by}"
            return f"{name} cannot come back: its blob {loss.missing}{of} is gone; the registry has collected garbage"
        case LossCode.NOT_KEPT:
            if loss.missing == loss.digest:
                return f"{name} cannot come back: its bytes are not in the trash"
            return f"{name} cannot come back: the bytes of its manifest {loss.missing} are not in the trash"
