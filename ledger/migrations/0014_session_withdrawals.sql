-- A wallet fetches what a session owes by scanning a code, too. `job_id` names the owner, a job or a session, as it does
-- in refunds.
alter table lnurl_withdrawals
    add column session_id text references sessions (id),
    add column of_job text generated always as (case when session_id is null then job_id end) stored references jobs (id),
    drop constraint lnurl_withdrawals_job_id_fkey,
    add constraint one_owner check (session_id is null or session_id = job_id);
