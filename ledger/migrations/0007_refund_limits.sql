-- Limits of refunds: budgets for routing fees by UTC day; dust that its owner gives to the pool;
-- addresses that stay on file.

alter table refund_attempts
    -- The key of the node that is paid: the budget per destination counts by it.
    add column payee text check (payee ~ '^0[23][0-9a-f]{64}$'),
    -- The day on whose budget the fee counts: the one on which the attempt was made.
    add column fee_day date not null default (now() at time zone 'utc')::date,
    -- Which budget left less than the usual limit, if one did.
    add column fee_bound text check (fee_bound in ('day', 'destination')),
    -- The budgets in force when the fee limit was granted; null: none was.
    add column fee_day_budget_msat bigint check (fee_day_budget_msat >= 0),
    add column fee_payee_budget_msat bigint check (fee_payee_budget_msat >= 0),
    -- What counts against the budgets: the limit as long as a fee may still be paid, then the fee that was.
    add column fee_counted_msat bigint not null generated always as (
        case state when 'paid' then coalesce(fee_msat, 0) when 'failed' then 0 else fee_limit_msat end) stored,
    add constraint fee_limit_within_its_budgets check (
        fee_limit_msat <= least(fee_day_budget_msat, fee_payee_budget_msat));

update refund_attempts set fee_day = (created_at at time zone 'utc')::date;

-- Free payments and failed ones are not in it, so a day's sum reads few rows.
create index refund_attempts_fees on refund_attempts (fee_day, payee) include (fee_counted_msat)
    where fee_counted_msat > 0;
-- The last attempt of a job is looked for by each reader of the job.
create index refund_attempts_job on refund_attempts (job_id, created_at);

-- Too little to be sent, given to the pool by its owner: terminal, and no attempt ever pays it.
alter table refunds
    drop constraint refunds_state_check,
    add constraint refunds_state_check check (state in ('pending', 'paying', 'paid', 'donated')),
    drop constraint claimed_by_its_attempt,
    add constraint claimed_by_its_attempt check ((state in ('pending', 'donated')) = (attempt_id is null));

-- An address on file that was tried in vain is tried again by itself at this time, if there is one.
alter table jobs
    add column refund_to_retry_at timestamptz,
    add constraint tried_again_after_an_error check (refund_to_retry_at is null or refund_to_error is not null);
