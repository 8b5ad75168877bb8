"""The tables of the usage store, as the steps that made them. Owns no connection: `store.py` runs the steps.

A step that a release contains is never changed; what changes is a new step behind it.
"""

from gproxy.ledger import rollup

_USAGE = (
    """
    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        started_at TEXT NOT NULL,
        user TEXT NOT NULL,
        key_label TEXT NOT NULL,
        key_id TEXT NOT NULL,
        provider TEXT,
        credential TEXT,
        model TEXT,
        requested_model TEXT NOT NULL,
        alias TEXT,
        dialect TEXT NOT NULL,
        route TEXT NOT NULL,
        stream INTEGER NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cache_write_1h_tokens INTEGER,
        reasoning_tokens INTEGER,
        total_tokens INTEGER,
        usage_source TEXT NOT NULL,
        cost_usd REAL,
        extra_attempt_cost_usd REAL,
        maybe_billed INTEGER NOT NULL,
        price_source TEXT,
        latency_ms INTEGER NOT NULL,
        ttft_ms INTEGER,
        error TEXT
    )
    """,
    "CREATE INDEX usage_started_at ON usage (started_at)",
    "CREATE INDEX usage_user_started_at ON usage (user, started_at)",
    "CREATE INDEX usage_model_started_at ON usage (model, started_at)",
)

_POLICY = (
    """
    CREATE TABLE spend (
        scope TEXT NOT NULL,
        period TEXT NOT NULL,
        spent_nano INTEGER NOT NULL DEFAULT 0,
        held_nano INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (scope, period)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE counters (
        rule TEXT NOT NULL,
        kind TEXT NOT NULL,
        slot INTEGER NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (rule, kind, slot)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE reservations (
        request_id TEXT PRIMARY KEY,
        worker INTEGER NOT NULL,
        hold TEXT NOT NULL,
        record BLOB NOT NULL
    ) WITHOUT ROWID
    """,
    # Spend that came before budgets were counted still counts against them; a day or month that has passed
    # is of no use to any.
    """
    INSERT INTO spend (scope, period, spent_nano)
    SELECT 'user/' || user, 'total', sum(CAST(round(cost_usd * 1e9) AS INTEGER)) FROM usage
    WHERE cost_usd > 0 GROUP BY user
    """,
    """
    INSERT INTO spend (scope, period, spent_nano)
    SELECT 'key/' || key_id, 'total', sum(CAST(round(cost_usd * 1e9) AS INTEGER)) FROM usage
    WHERE cost_usd > 0 GROUP BY key_id
    """,
)

_ADJUSTMENTS = (
    """
    CREATE TABLE spend_adjustments (
        scope TEXT NOT NULL,
        period TEXT NOT NULL,
        reason TEXT NOT NULL,
        at TEXT NOT NULL,
        delta_nano INTEGER NOT NULL,
        PRIMARY KEY (scope, period, reason, at)
    ) WITHOUT ROWID
    """,
    # What was charged before this was kept: without a row, or of a day before it was counted by days.
    """
    WITH costs (scope, day, nano) AS MATERIALIZED (
        SELECT 'user/' || user, substr(started_at, 1, 10), sum(CAST(round(cost_usd * 1e9) AS INTEGER))
        FROM usage WHERE cost_usd > 0 GROUP BY 1, 2
        UNION ALL
        SELECT 'key/' || key_id, substr(started_at, 1, 10), sum(CAST(round(cost_usd * 1e9) AS INTEGER))
        FROM usage WHERE cost_usd > 0 GROUP BY 1, 2
    ),
    differences (scope, period, nano) AS (
        SELECT scope, period, spent_nano - (
            SELECT coalesce(sum(nano), 0) FROM costs
            WHERE costs.scope = spend.scope AND period IN ('total', day, substr(day, 1, 7))
        ) FROM spend
    )
    INSERT INTO spend_adjustments (scope, period, reason, at, delta_nano)
    SELECT scope, period, 'earlier', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), nano FROM differences WHERE nano != 0
    """,
)

_LOG_CONTENT = """
        request_headers TEXT NOT NULL,
        response_headers TEXT,
        request_bytes INTEGER,
        request_sha256 TEXT,
        request_note TEXT,
        response_bytes INTEGER,
        response_sha256 TEXT,
        response_note TEXT,
        request_body TEXT,
        response_body TEXT
"""
# Bodies stand last, so that what looks at envelopes alone does not read their pages. An id is used once, though all
# entries were cleared: who follows the logs waits for a greater one.

_LOGS = (
    f"""
    CREATE TABLE downstream_log (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT NOT NULL,
        started_at TEXT NOT NULL,
        user TEXT,
        key_label TEXT,
        key_id TEXT,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        query TEXT NOT NULL,
        requested_model TEXT,
        provider TEXT,
        model TEXT,
        attempts INTEGER NOT NULL,
        status INTEGER,
        first_byte_ms INTEGER,
        total_ms INTEGER NOT NULL,
        error TEXT,{_LOG_CONTENT})
    """,
    f"""
    CREATE TABLE upstream_log (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT NOT NULL,
        started_at TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        provider TEXT NOT NULL,
        credential TEXT NOT NULL,
        model TEXT NOT NULL,
        method TEXT NOT NULL,
        url TEXT NOT NULL,
        status INTEGER,
        first_byte_ms INTEGER,
        total_ms INTEGER NOT NULL,
        error TEXT,{_LOG_CONTENT})
    """,
    "CREATE INDEX downstream_log_started_at ON downstream_log (started_at)",
    "CREATE INDEX downstream_log_request_id ON downstream_log (request_id)",
    "CREATE INDEX upstream_log_started_at ON upstream_log (started_at)",
    "CREATE INDEX upstream_log_request_id ON upstream_log (request_id)",
)

# What a price may need beyond the columns of `usage`; a row only where there is anything.
_DETAILS = (
    """
    CREATE TABLE usage_details (
        usage_id INTEGER PRIMARY KEY REFERENCES usage (id) ON DELETE CASCADE,
        service_tier TEXT,
        input_audio_tokens INTEGER,
        input_image_tokens INTEGER,
        cache_read_audio_tokens INTEGER,
        cache_read_image_tokens INTEGER,
        output_audio_tokens INTEGER,
        output_image_tokens INTEGER,
        web_searches INTEGER
    )
    """,
)

_MODEL_LISTS = (
    """
    CREATE TABLE model_lists (
        provider TEXT PRIMARY KEY,
        address TEXT NOT NULL,
        fetched_at TEXT NOT NULL,
        models TEXT NOT NULL
    ) WITHOUT ROWID
    """,
)

_CREDENTIALS = (
    # Whatever changes a row gives it a new version, and none is ever given twice: so a reader that knows the last
    # one it has seen finds what is new.
    """
    CREATE TABLE credential_state (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL,
        credential TEXT NOT NULL,
        model TEXT NOT NULL,
        state TEXT NOT NULL,
        held TEXT NOT NULL,
        until REAL NOT NULL,
        failures INTEGER NOT NULL,
        status INTEGER,
        error TEXT NOT NULL,
        at REAL NOT NULL,
        probe_until REAL NOT NULL,
        salt BLOB NOT NULL,
        digest BLOB NOT NULL,
        UNIQUE (provider, credential, model)
    )
    """,
)

_COST_VIEWS = tuple(
    f"""
    CREATE VIEW {name} AS
    SELECT substr(day, 1, {length}) AS {period}, user, provider, model, sum(requests) AS requests,
        sum(errors) AS errors, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(cache_read_tokens) AS cache_read_tokens, sum(total_tokens) AS total_tokens,
        sum(cost_nano) / 1e9 AS cost_usd, sum(unpriced) AS unpriced, sum(estimated) AS estimated
    FROM usage_days JOIN usage_groups ON id = group_id
    GROUP BY 1, 2, 3, 4
    """  # noqa: S608 - the names below
    for name, period, length in (("daily_cost", "day", 10), ("monthly_cost", "month", 7))
)

# Without any known cost but with some that is unknown, a sum is unknown and not zero.
_COST_VIEWS_WITH_UNKNOWN = tuple(
    statement
    for name, view in zip(("daily_cost", "monthly_cost"), _COST_VIEWS, strict=True)
    for statement in (
        f"DROP VIEW {name}",
        view.replace(
            "sum(cost_nano) / 1e9",
            "CASE WHEN sum(cost_nano) != 0 OR sum(unpriced) = 0 THEN sum(cost_nano) / 1e9 END",
        ),
    )
)

# Whole days are read from the roll-up, and what is left of a span by its times: these two made a report of one user's
# latencies take 0.02 s instead of 0.04, of 300 000 rows, and each row a quarter more.
_FEWER_INDEXES = ("DROP INDEX usage_user_started_at", "DROP INDEX usage_model_started_at")

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("usage", _USAGE),
    ("policy", _POLICY),
    ("adjustments", _ADJUSTMENTS),
    ("logs", _LOGS),
    ("details", _DETAILS),
    ("model_lists", _MODEL_LISTS),
    ("credentials", _CREDENTIALS),
    ("rollup", rollup.STEP),
    ("cost views", _COST_VIEWS),
    ("cost views with unknown", _COST_VIEWS_WITH_UNKNOWN),
    ("rollup by commit", rollup.STEP_SUMMED_BY_COMMIT),
    ("fewer indexes", _FEWER_INDEXES),
)
"""The migrations, oldest first: a name that is never reused, and the statements it runs."""
