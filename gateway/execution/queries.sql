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
