"""Why a broker cannot be reached, in words: aiokafka logs the cause, and raises without it.

A wrong password, a certificate that nobody trusts and a port where nobody listens then look alike.
So once a client has failed to start, each server is tried once more by itself, and its own error is
what a person gets to read.
"""

import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings

TIMEOUT_MS = 5000


async def why_unreachable(settings: BrokerSettings) -> str:
    """`HOST:PORT: why` for each server that does not let us in, never a secret; empty when one
    does."""
    kwargs = settings.client_kwargs()
    reasons = []
    for server in kwargs.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(
                host.strip("[]"), int(port), request_timeout_ms=TIMEOUT_MS, **kwargs
            )
        except (KafkaError, OSError, TimeoutError) as error:
            reasons.append(f"{server}: {_words(error, settings)}")
        else:
            connection.close()
            return ""
    return "; ".join(reasons)


def _words(error: BaseException, settings: BrokerSettings) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = settings.tls_ca or "the system's authorities"
        return f"its certificate is not vouched for by {trusted} ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason}); does it speak TLS on this port?"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_MS // 1000} s"
    return str(error.args[0] if isinstance(error, KafkaError) and error.args else error)
