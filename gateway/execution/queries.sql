-- name: orphan_evaluations
-- Being evaluated, and nothing in the queue will ask the evaluator.
select job.id from jobs job
where job.state = 'evaluating' and job.updated_at < now() - interval '5 seconds' and not exists (
    select from pgqueuer task
    where task.dedupe_key = 'eval:' || job.id and task.status in ('queued', 'picked'))
order by job.id
for no key update of job skip locked

-- name: orphans
-- Executing, and nothing in the queue will run it. Locked, so that a job that ends meanwhile is left alone.
select job.id from jobs job
where job.state = 'executing' and job.updated_at < now() - interval '5 seconds' and not exists (
    select from pgqueuer task
    where task.dedupe_key = 'job:' || job.id and task.status in ('queued', 'picked'))
order by job.id
for no key update of job skip locked

-- name: with_tasks
-- One live task for the work of each job in `begun` (id), written as the queue's library writes it: a test compares.
queued as (
    insert into pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, headers, status)
    select 0, 'work', convert_to('job:' || id, 'UTF8'), now(), 'job:' || id, 'null', 'queued' from begun order by id
    on conflict (dedupe_key) where status in ('queued', 'picked') and dedupe_key is not null do nothing
    returning id, entrypoint, priority
), logged as (
    insert into pgqueuer_log (job_id, status, entrypoint, priority)
    select id, 'queued', entrypoint, priority from queued
)
