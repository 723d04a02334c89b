-- name: begin_works
-- Settlements of works that wait for just these, in one statement: recorded, booked, begun and queued. Jobs are locked in
-- the order of their ids before anything is written, and looked at again under their locks: what is otherwise by then is
-- left out. What is to be posted for each ($7 to $12) is posted whole or the statement fails.
with settled as materialized (
    select * from unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::text[], $6::timestamptz[])
        as settled (payment_hash, paid_msat, settle_index, at, payment_request, expires_at)
), due as materialized (
    select settled.*, job.id as job_id
    from settled join invoices invoice using (payment_hash) join jobs job on job.id = invoice.job_id
    where job.state = 'awaiting_work_payment' and job.serve = 'gate' and invoice.purpose = 'work'
    order by job.id for no key update of job
), recorded as (
    update invoices invoice set state = 'settled', amount_paid_msat = due.paid_msat, settle_index = due.settle_index,
        settled_at = due.at, payment_request = coalesce(invoice.payment_request, due.payment_request),
        expires_at = coalesce(invoice.expires_at, due.expires_at), updated_at = now()
    from due
    where invoice.payment_hash = due.payment_hash and invoice.state <> 'settled' and (select count(*) from due) >= 0
    returning invoice.payment_hash, due.job_id, due.paid_msat
), begun as (
    update jobs set state = 'executing', updated_at = now()
    from recorded where jobs.id = recorded.job_id
    returning jobs.id
), wanted as materialized (
    select cause_kind, cause_id, debit, credit, amount_msat
    from unnest($7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[])
        as transfer (payment_hash, cause_kind, cause_id, debit, credit, amount_msat)
    join recorded using (payment_hash)
), limits as (
    select null::text as code, 0 as place where false
), opening as materialized (
    select distinct credit as code from wanted
),
-- include: ledger book.sql with_posting
,
-- include: gateway.execution queries.sql with_tasks
select payment_hash from recorded
where must_hold('a settlement is booked whole', (select count(*) from posted) = (select count(*) from wanted))
  and must_hold('what was paid is held for its job', paid_msat = (
        select sum(amount_msat) from wanted where credit = 'holding:' || job_id))
  and must_hold('a work begins for one settlement', (select count(*) from begun) = (select count(*) from recorded))

-- name: complete_works
-- Works that are done, of jobs that their buyers pay alone, in one statement: booked, ended, and the rest owed. Jobs are
-- locked in the order of their ids, then holdings by code, then the pool, before anything is written; what is under
-- its locks otherwise than it was thought ($3: what is held for it), or has failures to be counted off, is left out.
-- What is to be posted for each ($12 to $17) is posted whole or the statement fails.
with done as materialized (
    select * from unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::jsonb[], $7::bigint[],
                         $8::bigint[], $9::text[], $10::text[], $11::bigint[])
        as done (id, attempt, held_msat, holding, subject, result, cost_sats, charge_sats, refund_id, refund_cause,
                 refund_sats)
), running as materialized (
    select done.* from done join jobs job using (id)
    where job.state = 'executing' and job.attempt = done.attempt and job.serve = 'gate' and job.pubkey is null
      and not exists (select from work_failures failed where failed.kind = 'address' and failed.subject = done.subject)
    order by job.id for no key update of job
), held as materialized (
    select account.code, account.balance_msat from running join accounts account on account.code = running.holding
    order by account.code for no key update of account
), due as materialized (
    select running.* from running join held on held.code = running.holding where held.balance_msat = running.held_msat
), wanted as materialized (
    select cause_kind, cause_id, debit, credit, amount_msat
    from unnest($12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bigint[])
        as transfer (job_id, cause_kind, cause_id, debit, credit, amount_msat)
    join due on due.id = transfer.job_id
), limits as materialized (
    select account.code, 0 as place from accounts account
    where account.code = 'pool' and exists (select from wanted where 'pool' in (debit, credit))
      and (select count(*) from held) >= 0
), opening as (
    select null::text as code where false
),
-- include: ledger book.sql with_posting
, ended as (
    update jobs set state = 'complete', result = due.result, actual_cost_sats = due.cost_sats, absorbed_sats = 0,
        user_charge_sats = due.charge_sats, updated_at = now()
    from due where jobs.id = due.id
    returning jobs.id
), owed as (
    insert into refunds (id, job_id, cause, amount_sats)
    select refund_id, due.id, refund_cause, refund_sats from due join ended using (id) where refund_sats > 0
)
select id from ended join due using (id)
where must_hold('a work that is done is booked whole', (select count(*) from posted) = (select count(*) from wanted))
  and must_hold('all that was held is charged or owed back', (held_msat, charge_sats * 1000, refund_sats * 1000) = (
        select coalesce(sum(amount_msat), 0), coalesce(sum(amount_msat) filter (where credit = 'revenue'), 0),
               coalesce(sum(amount_msat) filter (where credit = 'refunds_payable'), 0)
        from wanted where debit = due.holding))

-- name: sell
-- A group's sales: jobs, and what is to be paid for them. The preimage is stored first: an answer of LND that is lost can
-- be asked for again. With a cap ($23) only what is plain is sold: nothing of that id stands already, its address has room
-- for it (open is counted up to the cap only: a soft cap, in the order of the asks), and no work of that address failed
-- ($22) lately. An input that is being looked at takes up as much room as an invoice, because looking may be free.
with asked as materialized (
    select *, row_number() over (partition by client_address order by place) as nth
    from unnest($1::text[], $2::text[], $3::jsonb[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
                $9::bytea[], $10::text[]::inet[], $11::text[], $12::text[], $13::bytea[], $22::text[]) with ordinality
        as asked (id, work, input, state, serve, estimate_sats, absorb_sats, work_amount_sats, token_hash,
                  client_address, refund_to, pubkey, request_hash, subject, place)
), taken as materialized (
    select client_address, (select count(*) from (
        (select from invoices where invoices.client_address = known.client_address and state in ('planned', 'open')
         limit $23)
        union all
        (select from jobs where jobs.client_address = known.client_address and state = 'evaluating' limit $23)) as open)
        as open
    from (select distinct client_address from asked where $23::int is not null) as known
), sold as (
    insert into jobs (id, work, input, state, serve, estimate_sats, absorb_sats, work_amount_sats, token_hash,
                      client_address, refund_to, pubkey, request_hash)
    select id, work, input, state, serve, estimate_sats, absorb_sats, work_amount_sats, token_hash,
           client_address, refund_to, pubkey, request_hash
    from asked left join taken using (client_address)
    where $23::int is null or (
        taken.open + asked.nth <= $23
        and not exists (select from work_failures failed
                        where failed.kind = 'address' and failed.subject = asked.subject and last_failed_at > now() - interval '1 day')
        and not exists (select from jobs where jobs.id = asked.id))
    returning id, state
), planned as (
    insert into invoices (payment_hash, preimage, purpose, job_id, client_address, amount_msat, memo, planned_expires_at)
    select hash, preimage, purpose, job_id, address, msat, memo, now() + make_interval(secs => expiry_s)
    from unnest($14::bytea[], $15::bytea[], $16::text[], $17::text[]::inet[], $18::bigint[], $19::text[], $20::int[],
                $21::text[])
        as planned (hash, preimage, job_id, address, msat, memo, expiry_s, purpose)
    join sold on sold.id = planned.job_id
    returning job_id
)
select id from sold
where must_hold('what waits to be paid has its invoice', (select count(*) from planned) = (
    select count(*) from sold where state in ('awaiting_work_payment', 'awaiting_eval_payment')))
