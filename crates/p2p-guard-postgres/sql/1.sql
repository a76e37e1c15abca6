-- Version 1. `{schema}` is replaced by the name of the schema. Run once, in one transaction.

CREATE SCHEMA IF NOT EXISTS {schema};

-- Whose promises these are. One row.
CREATE TABLE {schema}.identity (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    chain_id text NOT NULL,
    domain bytea NOT NULL CHECK (octet_length(domain) = 32),
    -- Promises for windows that ended before this were removed. None is given any more.
    pruned_below bigint NOT NULL DEFAULT 0
);

CREATE SEQUENCE {schema}.session;

CREATE TABLE {schema}.promise (
    signer bytea NOT NULL CHECK (octet_length(signer) = 20),
    window_end bigint NOT NULL CHECK (window_end >= 0),
    block bigint NOT NULL CHECK (block >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    eop boolean NOT NULL,
    eop_only boolean NOT NULL,
    -- The lease under which it was given; none where there was no lease.
    token bigint,
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (signer, window_end, block)
);

CREATE INDEX promise_handover ON {schema}.promise (signer, window_end, block) WHERE eop;

-- Which node signs. One row, from the beginning.
CREATE TABLE {schema}.lease (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Grows with each node that becomes leader.
    token bigint NOT NULL DEFAULT 0,
    session bigint,
    node text,
    expires timestamptz NOT NULL DEFAULT '-infinity',
    taken_at timestamptz,
    -- Why the node leads: the first one, or after the one before has let go, or has not renewed in time.
    taken_why text,
    released boolean NOT NULL DEFAULT false,
    -- Who has released it lets others go first until then.
    waits_until timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO {schema}.lease DEFAULT VALUES;

-- Both locks are held to the end of the transaction, and PostgreSQL lets them go after the commit is visible to others.
-- The gate: shared by whoever records, alone for whoever changes the lease's holder or imports.
CREATE FUNCTION {schema}.gate() RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT hashtextextended('{schema}.gate', 0) $$;

CREATE FUNCTION {schema}.turn(signer bytea, window_end bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT hashtextextended('{schema}.' || encode(signer, 'hex'), window_end) $$;

-- The first promise that a new one would contradict. It is STABLE: all parts see the snapshot of the statement that calls it.
CREATE FUNCTION {schema}.contradicted(
    p_signer bytea, p_window bigint, p_block bigint, p_hash bytea, p_eop boolean, p_eop_only boolean
) RETURNS TABLE (kind text, hash bytea) LANGUAGE sql STABLE ROWS 1 AS $$
    (SELECT 'equivocation', p.hash FROM {schema}.promise p
        WHERE p.signer = p_signer AND p.window_end = p_window AND p.block = p_block AND p.hash <> p_hash)
    UNION ALL
    (SELECT 'block_after_eop', p.hash FROM {schema}.promise p
        WHERE p.signer = p_signer AND p.window_end = p_window AND p.block < p_block AND p.hash <> p_hash
            AND p.eop AND NOT p_eop_only
        ORDER BY p.block LIMIT 1)
    UNION ALL
    (SELECT 'block_after_eop', p.hash FROM {schema}.promise p
        WHERE p.signer = p_signer AND p.window_end = p_window AND p.block > p_block AND p.hash <> p_hash
            AND p_eop AND NOT p.eop_only
        ORDER BY p.block LIMIT 1)
    LIMIT 1
$$;

-- What stands against an answer of yes from this database as it is, or null.
CREATE FUNCTION {schema}.unfit(p_version integer, p_chain_id text, p_domain bytea) RETURNS text
    LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN 'it is read-only'
        -- A later statement must see what was committed while the transaction waited for a lock.
        WHEN current_setting('transaction_isolation') <> 'read committed'
            THEN 'its transactions are ' || current_setting('transaction_isolation')
                || '; default_transaction_isolation must be read committed'
        WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
            THEN 'synchronous_commit is ' || current_setting('synchronous_commit')
                || '; it must be on, or a crash forgets what was signed'
        WHEN current_setting('fsync') <> 'on'
            THEN 'fsync is ' || current_setting('fsync') || '; it must be on, or a crash forgets what was signed'
        WHEN current_setting('full_page_writes') <> 'on'
            THEN 'full_page_writes is ' || current_setting('full_page_writes')
                || '; it must be on, or a crash damages what was signed'
        WHEN i.one IS NULL THEN 'it has no identity'
        WHEN i.version <> p_version
            THEN 'its schema has version ' || i.version || ', this program needs version ' || p_version
        WHEN i.chain_id <> p_chain_id THEN 'it guards chain ' || i.chain_id || ', not chain ' || p_chain_id
        WHEN i.domain <> p_domain
            THEN 'it guards domain 0x' || encode(i.domain, 'hex') || ', not 0x' || encode(p_domain, 'hex')
    END
    FROM (SELECT) nothing LEFT JOIN {schema}.identity i ON i.one
$$;

-- The question. One statement of the client, one transaction: lock, look, record.
CREATE FUNCTION {schema}.permit(
    p_version integer, p_chain_id text, p_domain bytea,
    p_signer bytea, p_window bigint, p_block bigint, p_hash bytea, p_eop boolean, p_eop_only boolean,
    p_session bigint, p_token bigint, p_seen_seq bigint, p_seen_window bigint,
    OUT answer text, OUT about text, OUT signed bytea, OUT recorded bigint
) LANGUAGE plpgsql AS $$
DECLARE
    s record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({schema}.gate());
    PERFORM pg_advisory_xact_lock({schema}.turn(p_signer, p_window));
    -- One statement, one snapshot, taken after both locks are held.
    SELECT {schema}.unfit(p_version, p_chain_id, p_domain) AS unfit,
        i.pruned_below,
        l.session, l.token, l.node, l.expires > clock_timestamp() AS leads,
        c.kind, c.hash AS contradicts,
        mine.seq AS again,
        p_seen_seq IS NULL OR p_seen_window < i.pruned_below
            OR EXISTS (SELECT FROM {schema}.promise p WHERE p.seq = p_seen_seq) AS is_whole
        INTO s
        FROM {schema}.lease l
        LEFT JOIN {schema}.identity i ON i.one
        LEFT JOIN {schema}.contradicted(p_signer, p_window, p_block, p_hash, p_eop, p_eop_only) c ON true
        LEFT JOIN {schema}.promise mine
            ON mine.signer = p_signer AND mine.window_end = p_window AND mine.block = p_block AND mine.hash = p_hash
        WHERE l.one;
    IF NOT FOUND THEN
        answer := 'unfit'; about := 'its lease has no row';
    ELSIF s.unfit IS NOT NULL THEN
        answer := 'unfit'; about := s.unfit;
    ELSIF NOT s.is_whole THEN
        answer := 'unfit';
        about := 'it has lost promise ' || p_seen_seq
            || ', which it had recorded: it was restored or failed over to an earlier state';
    -- Before a contradiction, which would alarm whoever sends to both nodes what only the leader is to publish. Without a
    -- lease of its own, a guard is refused while another holds one.
    ELSIF (p_token IS NULL AND s.leads)
        OR (p_token IS NOT NULL AND NOT (s.leads AND s.token = p_token AND s.session = p_session)) THEN
        answer := 'not_leader';
        about := CASE WHEN s.leads THEN s.node END;
    ELSIF s.kind IS NOT NULL THEN
        answer := s.kind; signed := s.contradicts;
    ELSIF s.again IS NOT NULL THEN
        answer := 'yes'; recorded := s.again;
    ELSIF p_window < s.pruned_below THEN
        answer := 'pruned'; about := s.pruned_below::text;
    ELSE
        INSERT INTO {schema}.promise (signer, window_end, block, hash, eop, eop_only, token)
            VALUES (p_signer, p_window, p_block, p_hash, p_eop, p_eop_only, p_token)
            RETURNING seq INTO recorded;
        answer := 'yes';
    END IF;
END
$$;

-- Keeps the lease if the session has it, or takes it if nobody has. Asked often: it writes only where that is due.
CREATE FUNCTION {schema}.hold(
    p_version integer, p_chain_id text, p_domain bytea, p_session bigint, p_node text, p_term interval,
    OUT unfit text, OUT token bigint, OUT leader text, OUT is_mine boolean, OUT why text
) LANGUAGE plpgsql AS $$
DECLARE
    l record;
BEGIN
    unfit := {schema}.unfit(p_version, p_chain_id, p_domain);
    IF unfit IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO STRICT l FROM {schema}.lease WHERE one;
    IF l.session = p_session AND l.expires > clock_timestamp() THEN
        IF l.expires < clock_timestamp() + p_term * 2 / 3 THEN
            UPDATE {schema}.lease k SET expires = clock_timestamp() + p_term
                WHERE k.session = p_session AND k.token = l.token AND k.expires > clock_timestamp();
        END IF;
    ELSIF l.expires <= clock_timestamp() AND (l.session IS DISTINCT FROM p_session OR l.waits_until <= clock_timestamp()) THEN
        -- Whatever is being recorded under the old token is recorded before there is a new one.
        PERFORM pg_advisory_xact_lock({schema}.gate());
        UPDATE {schema}.lease k
            SET token = k.token + 1, session = p_session, node = p_node, taken_at = clock_timestamp(), released = false,
                expires = clock_timestamp() + p_term,
                taken_why = CASE WHEN k.token = 0 THEN 'first' WHEN k.released THEN 'after_release' ELSE 'after_expiry' END
            WHERE k.expires <= clock_timestamp() AND k.token = l.token;
    END IF;
    SELECT * INTO STRICT l FROM {schema}.lease WHERE one;
    token := l.token;
    is_mine := l.session IS NOT DISTINCT FROM p_session AND l.expires > clock_timestamp();
    leader := CASE WHEN l.expires > clock_timestamp() THEN l.node END;
    why := CASE WHEN is_mine THEN l.taken_why
        WHEN leader IS NOT NULL THEN 'other' WHEN l.released THEN 'released' ELSE 'expired' END;
END
$$;

-- Ends the lease. Of one session, or of whoever has it.
CREATE FUNCTION {schema}.release(p_session bigint, p_wait interval, OUT was text) LANGUAGE plpgsql AS $$
BEGIN
    -- Whatever is being recorded under it is recorded first.
    PERFORM pg_advisory_xact_lock({schema}.gate());
    UPDATE {schema}.lease k SET expires = '-infinity', released = true, waits_until = clock_timestamp() + p_wait
        WHERE k.expires > clock_timestamp() AND (p_session IS NULL OR k.session = p_session)
        RETURNING k.node INTO was;
END
$$;

-- Removes the promises for windows that ended before a time, and gives none for these any more.
CREATE FUNCTION {schema}.prune(p_below bigint, OUT removed bigint) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.identity SET pruned_below = greatest(pruned_below, p_below);
    DELETE FROM {schema}.promise WHERE window_end < p_below;
    GET DIAGNOSTICS removed = ROW_COUNT;
END
$$;

-- Takes over what another guard has recorded. The caller has locked the gate. Stops at the first contradiction.
CREATE FUNCTION {schema}.take_over(
    p_signer bytea[], p_window bigint[], p_block bigint[], p_hash bytea[], p_eop boolean[], p_eop_only boolean[],
    OUT added bigint, OUT contradicts integer, OUT kind text, OUT signed bytea
) LANGUAGE plpgsql AS $$
DECLARE
    below bigint := (SELECT pruned_below FROM {schema}.identity);
BEGIN
    added := 0;
    FOR i IN 1 .. coalesce(array_length(p_signer, 1), 0) LOOP
        CONTINUE WHEN p_window[i] < below;
        SELECT c.kind, c.hash INTO kind, signed
            FROM {schema}.contradicted(p_signer[i], p_window[i], p_block[i], p_hash[i], p_eop[i], p_eop_only[i]) c;
        IF FOUND THEN
            contradicts := i - 1;
            RETURN;
        END IF;
        INSERT INTO {schema}.promise (signer, window_end, block, hash, eop, eop_only)
            VALUES (p_signer[i], p_window[i], p_block[i], p_hash[i], p_eop[i], p_eop_only[i])
            ON CONFLICT DO NOTHING;
        IF FOUND THEN
            added := added + 1;
        END IF;
    END LOOP;
END
$$;

-- For monitoring: grant SELECT on these two. Neither can be written to.
CREATE VIEW {schema}.turns AS
    SELECT '0x' || encode(signer, 'hex') AS signer, window_end, count(*) AS promises, max(block) AS highest_block,
        bool_or(eop) AS has_handed_over, max(token) AS token, max(recorded_at) AS last_recorded_at
    FROM {schema}.promise GROUP BY {schema}.promise.signer, window_end;

CREATE VIEW {schema}.leader AS
    SELECT l.token, l.node, l.expires > clock_timestamp() AS is_held, l.taken_at, l.expires, l.released,
        i.version, i.chain_id, '0x' || encode(i.domain, 'hex') AS domain, i.pruned_below
    FROM {schema}.lease l CROSS JOIN {schema}.identity i;
