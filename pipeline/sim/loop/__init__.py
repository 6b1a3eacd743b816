"""The world in which decisions are judged: closed loop, seeded, on paper (no broker, no clock)."""
