-- The evaluation step: an operator's service looks at an input before its price is fixed. Rules: ARCHITECTURE.md, "States".

create table evaluations (
    job_id text primary key references jobs (id),
    -- What looking at it costs; who pays it: the buyer by an invoice of its own, or the pool by a grant of its own.
    fee_sats bigint not null check (fee_sats >= 0),
    granted boolean not null,
    -- The catalogue's estimate: what the evaluator says is never more.
    cap_sats bigint not null check (cap_sats >= 1),
    -- Number of the evaluator's run; an answer that carries another number is late and discarded.
    attempt integer not null default 0 check (attempt >= 0),
    handed_back integer not null default 0 check (handed_back between 0 and attempt),
    outcome text check (outcome in ('accepted', 'rejected', 'failed')),
    charged_sats bigint check (charged_sats >= 0),
    absorbed_sats bigint check (absorbed_sats >= 0),
    created_at timestamptz not null default now(),
    answered_at timestamptz,
    constraint answered_says_who_paid check (
        (outcome is null) = (charged_sats is null) and (outcome is null) = (absorbed_sats is null)
        and (outcome is null) = (answered_at is null)),
    -- The fee is kept when the evaluator answers, whatever the answer; an evaluation that failed costs nothing.
    constraint the_fee_is_kept_for_an_answer check (
        charged_sats + absorbed_sats = case outcome when 'failed' then 0 else fee_sats end),
    constraint who_pays_is_one check (case when granted then charged_sats = 0 else absorbed_sats = 0 end),
    constraint nothing_is_granted_for_nothing check (not granted or fee_sats > 0)
);

-- An answer is given once: what has been said is immutable.
create function refuse_second_answer() returns trigger language plpgsql as $$
begin
    raise exception 'the evaluation of job % was answered', old.job_id using errcode = 'restrict_violation';
end
$$;
create trigger evaluations_answer_once before update on evaluations
    for each row when (old.outcome is not null) execute function refuse_second_answer();

create index jobs_evaluating on jobs (client_address) where state = 'evaluating';

-- What the evaluator answered for the price stands on the job; `price_is_shared` and `served_as_shared` hold throughout.
alter table invoices
    drop constraint invoices_purpose_check,
    add constraint invoices_purpose_check check (purpose in ('work', 'evaluation', 'donation'));
