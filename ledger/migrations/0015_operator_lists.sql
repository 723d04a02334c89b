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

-- The order of the operator's lists, newest first. The time alone: rows of one moment are sorted as they are read, and
-- the index is half as large. A new row comes last in it, so a sale pays for one write to a page that is at hand.
create index jobs_newest on jobs (created_at);
create index invoices_newest on invoices (created_at);
create index sessions_newest on sessions (created_at);
create index refunds_newest on refunds (created_at);
create index webhook_deliveries_newest on webhook_deliveries (created_at);
