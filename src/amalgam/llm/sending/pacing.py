"""How fast requests are sent: as many in flight as the endpoint takes, and no faster than its limits a minute.

Both classes are told the time and do not wait themselves.
"""


class AdaptiveLimit:
    """The number of requests in flight: it grows while answers come, and is halved when the endpoint pushes back.

    Additive increase, multiplicative decrease, as TCP's congestion control (RFC 5681). Until the first push-back each
    answer makes room for one more, which doubles the number with each round trip; later it grows by one a round trip.
    Requests that were already on their way at a push-back say nothing new when they are pushed back as well, so they
    neither cut nor grow the number again.

    Attributes:
        current: how many requests may be in flight now.
        in_flight: how many are.
    """

    def __init__(self, start: int, most: int) -> None:
        """Begin with `start` requests; never allow fewer than 1 nor more than `most`."""
        self._most = max(most, 1)
        self._is_slow_start = True
        self._cuts = self._answers = 0
        self.current = min(max(start, 1), self._most)
        self.in_flight = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent."""
        return self.in_flight < self.current

    def start(self) -> int:
        """Count a request that is sent; return the mark to hand back when it is answered."""
        self.in_flight += 1
        return self._cuts

    def end(self) -> None:
        """Count a request that is over."""
        self.in_flight -= 1

    def grow(self, mark: int) -> None:
        """Take note of an answer, before `end`."""
        # A limit that is not used has not been tried, so answers do not say that it could be higher.
        if mark != self._cuts or 2 * self.in_flight < self.current:
            return
        self._answers += 1
        if self._is_slow_start or self._answers >= self.current:
            self.current = min(self.current + 1, self._most)
            self._answers = 0

    def cut(self, mark: int) -> None:
        """Take note of a push-back, before `end`."""
        if mark == self._cuts:
            self.current = max(min(self.current, self.in_flight) // 2, 1)
            self._is_slow_start = False
            self._answers = 0
            self._cuts += 1


class Pace:
    """Even spacing, so that no minute holds more than so many requests or tokens.

    There is no burst at the start: an endpoint that counts over a shorter time than a minute is not overrun.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Take the limits; None is no limit."""
        self._request = 60.0 / requests_per_minute if requests_per_minute else 0.0  # seconds that each takes up
        self._token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = self._next_token = float("-inf")

    @property
    def counts_tokens(self) -> bool:
        """Whether the number of tokens matters."""
        return bool(self._token)

    def find_delay(self, now: float) -> float:
        """Return the seconds until a request may be sent, 0 if it may be sent now."""
        return max(self._next_request - now, self._next_token - now, 0.0)

    def spend(self, now: float, tokens: float) -> None:
        """Count a request that is sent now, of about so many tokens."""
        self._next_request = max(self._next_request, now) + self._request
        self._next_token = max(self._next_token, now) + tokens * self._token

    def correct(self, tokens: float) -> None:
        """Count tokens that a request took above, or where negative below, what was guessed."""
        self._next_token += tokens * self._token
