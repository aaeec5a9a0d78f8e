rule tables:
    input:
        of_jobs(f"{RESULTS}/scores/{SCORED}/metrics.csv"),
    output:
        f"{RESULTS}/tables/metrics.csv",
