-- A sum that a limit is held against is looked at under a lock, which is held until the commit of who looked. A function,
-- because what it reads is as of after the lock: a statement alone sees what was committed before it began to wait.

-- What counts against the fee budgets of this UTC day: all attempts made on it, and those that pay this node.
create function fees_counted(lock_id bigint, payee_key text) returns table (all_msat bigint, payee_msat bigint)
language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock(lock_id);
    return query
        select coalesce(sum(fee_counted_msat), 0)::bigint,
               coalesce(sum(fee_counted_msat) filter (where payee = payee_key), 0)::bigint
        from refund_attempts where fee_day = (now() at time zone 'utc')::date and fee_counted_msat > 0;
end
$$;

-- The attempts that were sent and have not been heard the end of.
create function sends_in_flight(lock_id bigint) returns table (attempt_id text, sats bigint)
language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock(lock_id);
    return query
        select id, amount_sats::bigint from refund_attempts where state = 'unfinished' and sends > failed_sends;
end
$$;
