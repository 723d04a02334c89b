-- The operator's open pages are told of what the operator did, and that a session is over. Both are rare.
create function tell_operator() returns trigger language plpgsql as $$
begin
    perform pg_notify('boltworks_operator', '');
    return null;
end
$$;

create trigger operator_actions_are_told after insert on operator_actions
    for each statement execute function tell_operator();
create trigger operator_sessions_end after delete on operator_sessions
    for each row execute function tell_operator();

-- The order of the operator's lists, newest first. Rows come in the order of their time, so each new one is put at the
-- end of its index, and nothing that changes a row later touches it.
create index jobs_newest on jobs (created_at, id);
create index invoices_newest on invoices (created_at, payment_hash);
create index sessions_newest on sessions (created_at, id);
create index refunds_newest on refunds (created_at, id);
create index webhook_deliveries_newest on webhook_deliveries (created_at, id);
